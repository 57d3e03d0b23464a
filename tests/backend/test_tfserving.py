"""What `tfserving` promises beyond the backend suite: routing, retries, all ways a model server can fail."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from prometheus_client import CollectorRegistry
from seqserve.tfserving.predict_pb2 import ModelVersionStatus, PredictRequest, PredictResponse

from service import errors
from service.backend.base import Spec, State, VersionState
from service.backend.tfserving import RetryBudget, TfServingBackend, Tls
from service.contract.digest import digest_of
from service.metrics import Metrics
from tests.backend.wire import Refuses, Script, answer, server

Code = grpc.StatusCode
X = {"x": np.array([1.0, 2.0], np.float32)}


def spec(content: bytes = b"one", version: int = 1) -> Spec:
    """What the scripts serve."""
    return Spec("m", version, "serving_default", digest_of(content))


def soon(seconds: float = 10.0) -> float:
    """An absolute deadline."""
    return asyncio.get_running_loop().time() + seconds


@asynccontextmanager
async def backend(*addresses: str, **options: Any) -> AsyncIterator[TfServingBackend]:
    """A backend that has looked once."""
    made = TfServingBackend(addresses, lambda: ["m"], Metrics(CollectorRegistry()), **options)
    try:
        await made.models()
        yield made
    finally:
        await made.close()


async def until(backend: TfServingBackend, **wanted: Any) -> VersionState:
    """Look, as the catalog does, until version 1 is what is wanted; at most 5 s."""
    async with asyncio.timeout(5):
        while True:
            try:
                for state in await backend.versions("m"):
                    if all(getattr(state, name) == value for name, value in wanted.items()):
                        return state
            except errors.BackendUnavailable:
                await asyncio.wait(
                    [asyncio.create_task(_changed(backend))], timeout=0.05
                )  # no sleep: until a connection changes


async def _changed(backend: TfServingBackend) -> None:
    channels = [replica._channel for replica in backend._replicas.values()]
    waits = [asyncio.ensure_future(c.wait_for_state_change(c.get_state())) for c in channels]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def told(backend: TfServingBackend, name: str) -> dict[tuple[str, ...], float]:
    """A sample's values by its label values."""
    families = backend._metrics.registry.collect()
    samples = (sample for family in families for sample in family.samples)
    return {tuple(s.labels.values()): s.value for s in samples if s.name == f"seqserve_{name}"}


async def test_a_call_pins_the_version_and_carries_its_deadline() -> None:
    """Version, signature and time left go with every call; the answer comes back as it was sent."""
    script = Script()
    async with server(script) as address, backend(address) as tfs:
        assert await tfs.versions("m") == [VersionState(1, State.AVAILABLE, None, (digest_of(b"one"), 0))]
        np.testing.assert_array_equal((await tfs.predict(spec(), X, soon(5)))["y"], [2, 4])
        (request, left), *_ = script.calls
        assert (request.model_spec.version.value, request.model_spec.signature_name) == (1, "serving_default")
        assert left is not None
        assert 4 < left < 5.1
        assert await tfs.versions("nope") == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.NOT_FOUND, errors.BackendFailed),  # of the graph; of the server, see below
        (Code.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (Code.UNAVAILABLE, errors.BackendUnavailable),
        (Code.RESOURCE_EXHAUSTED, errors.BackendUnavailable),
        (Code.INVALID_ARGUMENT, errors.BackendFailed),
        (Code.FAILED_PRECONDITION, errors.BackendFailed),
        (Code.INTERNAL, errors.BackendFailed),
        (Code.UNKNOWN, errors.BackendFailed),
        (Code.OUT_OF_RANGE, errors.BackendFailed),
    ],
)
async def test_its_codes_become_ours_and_its_words_stay_in_the_log(
    code: grpc.StatusCode, kind: type[errors.SeqserveError], caplog: pytest.LogCaptureFixture
) -> None:
    """One table; a node's name is for the operator, never for a caller. Only UNAVAILABLE is tried again."""
    words = "assertion failed: [[{{node StatefulPartitionedCall}}]]"

    def fail(request: PredictRequest) -> None:
        raise Refuses(code, words)

    script = Script(predict=fail)
    async with server(script) as address, backend(address) as tfs:
        await tfs.versions("m")
        with pytest.raises(kind) as caught:
            await tfs.predict(spec(), X, soon())
        assert type(caught.value) is kind
        assert "{{node" not in caught.value.message
        assert words in caplog.text
        assert len(script.calls) == (3 if code is Code.UNAVAILABLE else 1)


def mistaken(request: PredictRequest) -> PredictResponse:
    """Answer as another version."""
    reply = answer(request, y=np.zeros(2, np.float32))
    reply.model_spec.version.value = 2
    return reply


def torn(request: PredictRequest) -> PredictResponse:
    """Answer a tensor whose bytes do not fill its shape."""
    reply = answer(request, y=np.zeros(2, np.float32))
    reply.outputs["y"].tensor_shape.dim[0].size = 3
    return reply


def negative(request: PredictRequest) -> PredictResponse:
    """Answer a tensor with an axis of no known size."""
    reply = answer(request, y=np.zeros(2, np.float32))
    reply.outputs["y"].tensor_shape.dim[0].size = -1
    return reply


def strange(request: PredictRequest) -> PredictResponse:
    """Answer an element type that no manifest has."""
    reply = answer(request, y=np.zeros(2, np.float32))
    reply.outputs["y"].dtype = 99
    return reply


def hollow(request: PredictRequest) -> PredictResponse:
    """Answer a shape and no entries."""
    reply = answer(request, y=np.zeros(2, np.float32))
    reply.outputs["y"].tensor_content = b""
    return reply


def noise(request: PredictRequest) -> bytes:
    """Answer what is no message."""
    return b"\xff\xff\xff"


@pytest.mark.parametrize("predict", [mistaken, torn, negative, strange, hollow, noise])
async def test_rubbish_is_a_clear_error(predict: Any) -> None:
    """What cannot be an answer to the call is BACKEND_FAILED."""
    async with server(Script(predict=predict)) as address, backend(address) as tfs:
        await tfs.versions("m")
        with pytest.raises(errors.BackendFailed):
            await tfs.predict(spec(), X, soon())


async def test_a_server_that_hangs_costs_the_deadline_and_no_more() -> None:
    """The call ends at its deadline, is cancelled at the server, and the slot is free again."""
    hang = asyncio.Event()

    async def predict(request: PredictRequest) -> PredictResponse:
        await hang.wait()
        return answer(request, y=np.zeros(2, np.float32))

    script = Script(predict=predict)
    async with server(script) as address, backend(address, calls=1) as tfs:
        await tfs.versions("m")
        waiting = [asyncio.create_task(tfs.predict(spec(), X, soon(0.3))) for _ in range(3)]
        failed = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in failed] == [errors.DeadlineExceeded] * 3
        assert len(script.calls) == 1  # the others waited for room here
        hang.set()
        assert "y" in await tfs.predict(spec(), X, soon())


async def test_no_more_calls_at_once_than_are_allowed() -> None:
    """An address gets `calls` batches at a time, however many are asked for; `slots` says so."""
    now = most = 0

    async def predict(request: PredictRequest) -> PredictResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.01)
        now -= 1
        return answer(request, y=np.zeros(2, np.float32))

    async with server(Script(predict=predict)) as address, backend(address, calls=3) as tfs:
        await tfs.versions("m")
        assert tfs.slots == 3
        await asyncio.gather(*(tfs.predict(spec(), X, soon()) for _ in range(20)))
        assert most == 3


async def test_rows_go_only_where_the_version_is() -> None:
    """Replicas see a version at different moments: only those that have it, with that content, are asked."""
    old = Script(manifests={1: b"one"})
    new = Script(manifests={1: b"one", 2: b"two"})
    other = Script(manifests={1: b"one", 2: b"another two"})
    async with server(old) as a, server(new) as b, server(other) as c, backend(a, b, c) as tfs:
        states = await tfs.versions("m")
        assert [(s.version, s.state) for s in states] == [(2, State.AVAILABLE), (1, State.AVAILABLE)]
        for _ in range(9):
            await tfs.predict(spec(b"two", 2), X, soon())
        assert [len(script.calls) for script in (old, new, other)] == [0, 9, 0]
        await asyncio.gather(*(tfs.predict(spec(), X, soon()) for _ in range(30)))
        assert all(len(script.calls) >= 5 for script in (old, other))
        with pytest.raises(errors.VersionNotFound):
            await tfs.predict(spec(b"a third two", 2), X, soon())


async def test_a_version_that_one_address_no_longer_has_is_asked_of_another() -> None:
    """NOT_FOUND moves a call on; where no address has it, it is VERSION_NOT_FOUND."""

    def gone(request: PredictRequest) -> None:
        raise Refuses(Code.NOT_FOUND, "Servable not found for request: Specific(m, 1)")

    first, second = Script(predict=gone), Script()
    async with server(first) as a, server(second) as b, backend(a, b) as tfs:
        await tfs.versions("m")
        for _ in range(4):
            assert "y" in await tfs.predict(spec(), X, soon())
        assert (len(first.calls), len(second.calls)) == (1, 4)
        second.predict = gone
        with pytest.raises(errors.VersionNotFound):
            await tfs.predict(spec(), X, soon())


async def test_one_of_two_addresses_dies_and_no_call_fails() -> None:
    """What was under way there is tried again at the other; the dead one is let alone until it is back."""
    dying, living = Script(), Script()
    gate = asyncio.Event()

    async def held(request: PredictRequest) -> PredictResponse:
        await gate.wait()
        return answer(request, y=np.zeros(2, np.float32))

    dying.predict = held
    async with server(living) as b:
        async with server(dying) as a:
            dead = TfServingBackend([a, b], lambda: ["m"], Metrics(CollectorRegistry()))
            await dead.models()
            await dead.versions("m")
            assert dead.slots == 4
            under_way = [asyncio.create_task(dead.predict(spec(), X, soon())) for _ in range(8)]
            await until_calls(dying, 2)
        assert all("y" in outputs for outputs in await asyncio.gather(*under_way))
        assert told(dead, "backend_retries_total") == {(): 2}
        assert "y" in await dead.predict(spec(), X, soon())
        await until(dead, state=State.AVAILABLE)
        assert dead.slots == 2
        dying.predict = Script().predict
        async with server(dying):
            await until_calls(dying, 3, dead)
        await dead.close()
    assert told(dead, "backend_up") == {}


async def until_calls(script: Script, count: int, backend: TfServingBackend | None = None) -> None:
    """Wait until a script was called so often, calling it meanwhile through a backend if there is one."""
    async with asyncio.timeout(5):
        while len(script.calls) < count:
            await asyncio.sleep(0)
            if backend is not None:
                await backend.versions("m")
                await backend.predict(spec(), X, soon())


async def test_retries_end_with_their_budget() -> None:
    """A server that only says UNAVAILABLE is not called to death; each success earns a tenth of a retry."""

    def full(request: PredictRequest) -> None:
        raise Refuses(Code.UNAVAILABLE, "The batch scheduling queue is full")

    script = Script(predict=full)
    async with server(script) as address, backend(address) as tfs:
        await tfs.versions("m")
        for _ in range(50):
            with pytest.raises(errors.BackendUnavailable):
                await tfs.predict(spec(), X, soon())
        assert len(script.calls) == 50 + 10
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(10):
        budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


async def test_a_server_that_comes_back_is_examined_anew() -> None:
    """While it is gone calls end with UNAVAILABLE at once; back, its versions have a new stamp."""
    script = Script()
    async with server(script) as address:
        tfs = TfServingBackend([address], lambda: ["m"], Metrics(CollectorRegistry()))
        await tfs.models()
        (before,) = await tfs.versions("m")
        (again,) = await tfs.versions("m")
        assert before == again
    async with asyncio.timeout(1):
        with pytest.raises(errors.BackendUnavailable):
            await tfs.predict(spec(), X, soon(100))
        with pytest.raises(errors.BackendUnavailable):
            await tfs.versions("m")
    started = asyncio.get_running_loop().time()
    async with server(script):
        after = await until(tfs, state=State.AVAILABLE)
        assert asyncio.get_running_loop().time() - started < 2
        assert after.stamp != before.stamp
        assert "y" in await tfs.predict(spec(), X, soon())
        await tfs.close()


async def test_another_content_behind_the_address_is_not_called_for_the_old() -> None:
    """The server restarts with another version 1 before anyone has looked: rows of the old one stay out."""
    script = Script()
    async with server(script) as address:
        tfs = TfServingBackend([address], lambda: ["m"], Metrics(CollectorRegistry()))
        await tfs.models()
        await tfs.versions("m")
    script.manifests = {1: b"changed"}
    async with server(script):
        with pytest.raises(errors.BackendUnavailable):
            await tfs.predict(spec(), X, soon(1))
        await until(tfs, state=State.AVAILABLE)
        with pytest.raises(errors.VersionNotFound):
            await tfs.predict(spec(), X, soon(1))
        assert "y" in await tfs.predict(spec(b"changed"), X, soon())
        await tfs.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            Refuses(Code.FAILED_PRECONDITION, 'Serving signature key "manifest" not found.'),
            "MANIFEST_MISSING",
        ),
        (
            Refuses(Code.INVALID_ARGUMENT, "Batching Run() must have at least one input tensor"),
            "BACKEND_BATCHING_ON",
        ),
        (Refuses(Code.NOT_FOUND, "assets/manifest.json; No such file"), "MANIFEST_MISSING"),
        (Refuses(Code.INTERNAL, "assets/manifest.json; No such file"), "BACKEND_FAILED"),
    ],
)
async def test_a_version_that_cannot_explain_itself_fails_with_its_reason(
    content: Refuses, reason: str
) -> None:
    """It is listed as FAILED; its neighbour is AVAILABLE."""
    async with server(Script(manifests={1: b"one", 2: content})) as address, backend(address) as tfs:
        newest, older = await tfs.versions("m")
        assert (newest.version, newest.state, older.state) == (2, State.FAILED, State.AVAILABLE)
        assert newest.error is not None
        assert newest.error.reason == reason
        with pytest.raises(errors.SeqserveError) as caught:
            await tfs.manifest("m", 2)
        assert caught.value.reason == reason


async def test_states_are_told_as_they_are() -> None:
    """Loading is LOADING, a failed load FAILED, an ending version none; a busy server is asked again."""
    loading, end = ModelVersionStatus.LOADING, ModelVersionStatus.END
    states = {5: (end, 11), 4: (loading, 0), 3: (end, 0), 2: (ModelVersionStatus.UNLOADING, 0)}
    busy = Refuses(Code.UNAVAILABLE)
    script = Script(manifests={6: busy, 1: b"one"}, states=states)
    async with server(script) as address, backend(address) as tfs:
        seen = {state.version: state.state for state in await tfs.versions("m")}
        assert seen == {6: State.LOADING, 5: State.FAILED, 4: State.LOADING, 1: State.AVAILABLE}
        script.manifests[6] = b"six"
        assert (await tfs.versions("m"))[0].state is State.AVAILABLE


async def test_a_label_is_what_the_server_says() -> None:
    """The version that answers under the label is the label's; an unknown one is LABEL_NOT_FOUND."""
    script = Script(manifests={1: b"one", 2: b"two"}, labels={"stable": 1})
    async with server(script) as address, backend(address) as tfs:
        await tfs.versions("m")
        assert await tfs.label("m", "stable") == 1
        script.labels["stable"] = 2
        assert await tfs.label("m", "stable") == 2
        with pytest.raises(errors.LabelNotFound):
            await tfs.label("m", "canary")
    with pytest.raises(errors.BackendUnavailable):
        await tfs.label("m", "stable")


async def test_a_name_with_several_addresses_is_several_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each resolved address has a channel; one that is lost is closed; a failing resolver changes nothing."""
    first, second = Script(), Script()
    found = ["127.0.0.1"]

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        if host != "tfserving":
            raise socket.gaierror("no such host")
        return [(socket.AF_INET, 1, 6, "", (ip, port)) for ip in found]

    async with server(first) as address:
        port = address.rpartition(":")[2]
        second.port = int(port)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with backend(f"tfserving:{port}", "elsewhere:1") as tfs:
            await tfs.versions("m")
            assert list(told(tfs, "backend_up")) == [(f"ipv4:127.0.0.1:{port}",)]
            found[:] = ["127.0.0.1", "127.0.0.2"]
            await tfs.models()
            await tfs.versions("m")
            assert len(told(tfs, "backend_up")) == 2
            found[:] = ["127.0.0.2"]
            await tfs.models()
            assert list(told(tfs, "backend_up")) == [(f"ipv4:127.0.0.2:{port}",)]
            found[:] = []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs both ends' certificates."""
    return trustme.CA()


def pem(folder: Path, name: str, content: trustme.Blob) -> Path:
    """Write a PEM file."""
    path = folder / f"{name}.pem"
    content.write_to_path(str(path))
    return path


async def test_tls_proves_the_server_and_mutual_tls_the_gateway(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """A server of the authority answers; one of another does not; one that asks for a certificate gets it."""
    its, mine = authority.issue_cert("localhost"), authority.issue_cert("gateway")
    ca = authority.cert_pem.bytes()
    pair = (its.private_key_pem.bytes(), its.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials([pair], ca, require_client_auth=True)
    files = [pem(tmp_path, "ca", authority.cert_pem), pem(tmp_path, "cert", mine.cert_chain_pems[0])]
    mutual = Tls.read(*files, pem(tmp_path, "key", mine.private_key_pem))
    async with server(Script(), credentials) as address:
        async with backend(address, tls=mutual) as tfs:
            await tfs.versions("m")
            assert "y" in await tfs.predict(spec(), X, soon())
        for tls in (Tls(ca), Tls(trustme.CA().cert_pem.bytes(), mutual.cert, mutual.key), None):
            async with backend(address, tls=tls) as tfs:
                with pytest.raises(errors.BackendUnavailable):
                    await tfs.versions("m")
    with pytest.raises(ValueError, match=r"missing\.pem"):
        Tls.read(tmp_path / "missing.pem", None, None)
