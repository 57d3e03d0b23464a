"""One way to call for all four: blocking and awaiting, by REST and by gRPC."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from seqserve.client import Answers, AsyncClient, Client, ServiceError
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
    """Return an answer, or an error, as plain values; the class of either too."""
    kind = type(answer).__name__
    if isinstance(answer, ServiceError):
        faults = [[fault.pointer, fault.message, fault.reason] for fault in answer.errors]
        return [kind, answer.code, answer.reason, answer.message, faults, answer.retry_after]
    if isinstance(answer, Answers):
        return [kind, asdict(answer.model), [told(item) for item in answer.items]]
    return [kind, lists(asdict(answer))]


def lists(value: Any) -> Any:
    """Return tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {name: lists(entry) for name, entry in value.items()}
    return [lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value
