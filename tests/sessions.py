"""A whole service over `visits`, a recurrent model that is a function, and what is asked of its sessions."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx

from seqserve.service.main import running
from seqserve.service.settings import Settings
from seqserve.v1 import session_pb2, session_pb2_grpc
from tests.core.fakes import FakeBackend, as_files
from tests.core.sessions.fakes import visits, visits_manifest
from tests.doors import Both, FaultyBackend, write_feature

PATH = "/v1/models/visits/sessions"


@asynccontextmanager
async def visiting(**options: Any) -> AsyncIterator[Both]:
    """Serve `visits` at both doors, with a client of each."""
    backend = FakeBackend(visits)
    backend.put("visits", 1, as_files(visits_manifest()))
    faulty = FaultyBackend(backend)
    settings = Settings(rest_port=0, grpc_port=0, poll_seconds=600, drain_seconds=5, **options)
    async with (
        running(settings, faulty) as started,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{started.rest_port}", timeout=20) as rest,
        grpc.aio.insecure_channel(f"127.0.0.1:{started.grpc_port}") as channel,
    ):
        yield Both(started, faulty, rest, channel)


def stub(both: Both) -> Any:
    """Return SessionService's."""
    return session_pb2_grpc.SessionServiceStub(both.channel)


async def made(both: Both, headers: Mapping[str, str] | None = None) -> str:
    """Make a session, and return its id."""
    response = await both.rest.post(PATH, headers=headers)
    assert response.status_code == 200
    id: str = response.json()["session"]["id"]
    return id


def message(session: str, first: int, *labels: str) -> session_pb2.AppendRequest:
    """Return an append of events, a minute apart."""
    request = session_pb2.AppendRequest(model={"name": "visits"}, session_id=session, first_event=first)
    write_feature(request.sequence.features["event"], list(labels))
    write_feature(request.sequence.features["minutes"], [1.0] * len(labels))
    return request


def streamed(*requests: session_pb2.AppendRequest) -> Iterator[session_pb2.AppendStreamRequest]:
    """Return a stream of appends."""
    return iter([session_pb2.AppendStreamRequest(append=request) for request in requests])
