"""The whole service over a backend that is a function, and a caller of each of its doors."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import trustme

from seqserve.service.main import Running, running
from seqserve.service.settings import Settings
from seqserve.v1 import sequence_pb2
from tests.core.fakes import FakeBackend, as_files, sequence_manifest, totals
from tests.reasons import reason_of

OK = "OK"
PREDICT = "/seqserve.v1.SequenceService/Predict"
TRANSLATE = "/seqserve.v1.TranslationService/Translate"
LIST, GET = "/seqserve.v1.ModelService/ListModels", "/seqserve.v1.ModelService/GetModel"
HEALTH = "/grpc.health.v1.Health/Check"
MODELS = ("totals", "other")


@dataclass
class Doors:
    """A running service, and what its callers know of it."""

    started: Running
    backend: FakeBackend
    tls: ssl.SSLContext | None = None
    credentials: grpc.ChannelCredentials | None = None

    @asynccontextmanager
    async def rest(self, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        """Yield a client of the REST door; it has connections of its own."""
        scheme = "http" if self.tls is None else "https"
        verify = self.tls or False
        base = f"{scheme}://localhost:{self.started.rest_port}"
        async with httpx.AsyncClient(
            base_url=base, verify=verify, timeout=20, trust_env=False, **options
        ) as rest:
            yield rest

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Yield a channel to the gRPC door; it has a connection of its own."""
        address = f"localhost:{self.started.grpc_port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self.credentials is None:
            async with grpc.aio.insecure_channel(address, options) as channel:
                yield channel
        else:
            async with grpc.aio.secure_channel(address, self.credentials, options) as channel:
                yield channel


@asynccontextmanager
async def service(authority: trustme.CA | None = None, **options: Any) -> AsyncIterator[Doors]:
    """Serve `totals` and `other`; where an authority is given, its callers trust that one."""
    backend = FakeBackend(totals)
    for name in MODELS:
        backend.put(name, 1, as_files(sequence_manifest()))
    settings = Settings(
        host="localhost", rest_port=0, grpc_port=0, poll_seconds=600, drain_seconds=5, **options
    )
    async with asyncio.timeout(60), running(settings, backend) as started:
        yield Doors(started, backend) if authority is None else trusting(Doors(started, backend), authority)


def trusting(doors: Doors, authority: trustme.CA, own: trustme.LeafCert | None = None) -> Doors:
    """Return what trusts an authority, and shows a certificate of its own where it has one."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    mine: tuple[bytes, ...] = ()
    if own is not None:
        own.configure_cert(context)
        mine = own.private_key_pem.bytes(), b"".join(part.bytes() for part in own.cert_chain_pems)
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *mine)
    return Doors(doors.started, doors.backend, context, trusted)


async def by_rest(
    rest: httpx.AsyncClient, model: str, naming: Mapping[str, str], verb: str = "predict"
) -> str:
    """Ask for an answer, and return OK or the reason."""
    response = await rest.post(f"/v1/models/{model}:{verb}", json={"sequences": [{"x": [1]}]}, headers=naming)
    return OK if response.status_code == 200 else response.json()["reason"]


async def by_grpc(
    channel: grpc.aio.Channel, model: str, naming: Mapping[str, str], method: str = PREDICT
) -> str:
    """Ask for the same, or call another method with it; return OK or the reason."""
    request = sequence_pb2.PredictRequest(model={"name": model})
    request.sequences.add().features["x"].numbers.values.append(1)
    raw = request.SerializeToString() if method == PREDICT else b""
    metadata = tuple((name.lower(), value) for name, value in naming.items())
    return await sent(channel, method, raw, metadata)


async def sent(
    channel: grpc.aio.Channel, method: str, raw: bytes, metadata: tuple[tuple[str, str], ...]
) -> str:
    """Send bytes to a method; return OK or the reason."""
    try:
        await channel.unary_unary(method)(raw, metadata=metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return OK


def listed(folder: Path, *lines: Any) -> Path:
    """Return a file of keys."""
    path = folder / "keys.jsonl"
    aside = folder / "keys.new"
    aside.write_text("# keys\n" + "".join(f"{line.model_dump_json(exclude_none=True)}\n" for line in lines))
    aside.replace(path)
    return path
