"""One way to call for all four: blocking and awaiting, by REST and by gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from seqserve.client import AsyncClient, Client, ServiceError
from seqserve.service.main import Running

WAYS = [(door, kind) for door in ("http", "grpc") for kind in (Client, AsyncClient)]
NAMES = [f"{door}-{kind.__name__}" for door, kind in WAYS]


@dataclass
class Called:
    """A client of either kind, awaited."""

    client: Any

    async def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method; return its answer, or the error that it raises."""
        try:
            return await awaited(getattr(self.client, method), *arguments, **options)
        except ServiceError as error:
            return error


async def awaited(method: Any, *arguments: Any, **options: Any) -> Any:
    """Call a method of a client of either kind, or of its session."""
    if isinstance(method.__self__, AsyncClient) or type(method.__self__).__name__ == "AsyncSession":
        return await method(*arguments, **options)
    return await asyncio.to_thread(method, *arguments, **options)


def url(started: Running, door: str) -> str:
    """Return a door's address."""
    return f"{door}://127.0.0.1:{started.rest_port if door == 'http' else started.grpc_port}"


@asynccontextmanager
async def called(
    address: str, kind: type[Client] | type[AsyncClient], **options: Any
) -> AsyncIterator[Called]:
    """Yield a client, and close it."""
    client = kind(address, **options)
    try:
        yield Called(client)
    finally:
        await awaited(client.close)


def told(answer: Any) -> Any:
    """Return an answer, or an error, such that two that say the same are equal."""
    if isinstance(answer, ServiceError):
        return type(answer), answer.code, answer.message, answer.errors, answer.retry_after
    if hasattr(answer, "items"):
        return answer.model, [told(item) for item in answer.items]
    return answer
