"""What `tfserving` promises beyond the backend suite: what is sent, and every way an answer can be bad."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
import trustme

from seqserve.service import errors
from seqserve.service.backend.base import State, VersionState
from seqserve.service.backend.tfserving import Tls
from seqserve.service.contract.digest import digest_of
from seqserve.tfserving.predict_pb2 import ModelVersionStatus, PredictRequest, PredictResponse
from tests.backend.rig import Code, X, backend, soon, spec
from tests.backend.wire import Refuses, Script, answer, server


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
    """The call ends at its deadline, and the slot is free again."""
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


async def test_too_little_time_is_not_sent() -> None:
    """The model server would round it to none at all, which is no limit there."""
    script = Script()
    async with server(script) as address, backend(address) as tfs:
        await tfs.versions("m")
        with pytest.raises(errors.DeadlineExceeded):
            await tfs.predict(spec(), X, soon(0.004))
        assert script.calls == []


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
        if reason != "BACKEND_FAILED":  # which may pass: it is asked again at each look
            with pytest.raises(errors.SeqserveError) as caught:
                await tfs.manifest("m", 2)
            assert caught.value.reason == reason


async def test_the_servers_states_become_ours() -> None:
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
        script.labels["canary"] = 7
        with pytest.raises(errors.VersionNotFound, match=r"label 'canary' of model 'm' points to version 7"):
            await tfs.label("m", "canary")
    with pytest.raises(errors.BackendUnavailable):
        await tfs.label("m", "stable")


async def test_a_label_that_one_address_cannot_follow_is_asked_of_the_next() -> None:
    """Where none can, that is the answer, though another address may be down."""
    behind, ahead = Script(labels={"stable": 2}), Script(manifests={2: b"two"}, labels={"stable": 2})
    async with server(behind) as a:
        async with server(ahead) as b, backend(a, b) as tfs:
            await tfs.versions("m")
            assert await tfs.label("m", "stable") == 2
        async with backend(a, b) as tfs:
            await tfs.versions("m")
            with pytest.raises(errors.VersionNotFound):
                await tfs.label("m", "stable")


async def test_it_is_reachable_while_an_address_answers() -> None:
    """One of two is enough; none is not."""
    async with server(Script()) as a, backend(a, "127.0.0.1:1") as tfs:
        assert not tfs.is_reachable  # nobody has asked yet
        await tfs.versions("m")
        assert tfs.is_reachable
    async with backend("127.0.0.1:1") as tfs:
        with pytest.raises(errors.BackendUnavailable):
            await tfs.versions("m")
        assert not tfs.is_reachable


async def test_contract_files_that_cannot_be_told_apart_refuse_their_version_alone() -> None:
    """Torn lists of names and contents, or names that are no text, are MANIFEST_INVALID."""
    script = Script(manifests={1: b"one", 2: b"two"})
    real = script.manifest

    def torn(request: PredictRequest) -> PredictResponse:
        reply = real(request)
        if request.model_spec.version.value == 2:
            reply.outputs["names"].string_val.append(b"\xff")
        return reply

    script.manifest = torn  # type: ignore[method-assign]
    async with server(script) as address, backend(address) as tfs:
        newest, older = await tfs.versions("m")
        assert (newest.state, older.state) == (State.FAILED, State.AVAILABLE)
        assert newest.error is not None
        assert newest.error.reason == "MANIFEST_INVALID"


async def test_callers_do_not_learn_where_the_model_server_is() -> None:
    """Addresses are for the log."""
    async with server(Script(predict=noise)) as address, backend(address) as tfs:
        await tfs.versions("m")
        with pytest.raises(errors.BackendFailed) as caught:
            await tfs.predict(spec(), X, soon())
        assert address.rpartition(":")[2] not in caught.value.message


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs both ends' certificates."""
    return trustme.CA()


async def test_tls_proves_the_server_and_mutual_tls_the_gateway(authority: trustme.CA) -> None:
    """A server of the authority answers; one of another does not; one that asks for a certificate gets it."""
    its, mine = authority.issue_cert("127.0.0.1"), authority.issue_cert("gateway")
    ca = authority.cert_pem.bytes()
    pair = (its.private_key_pem.bytes(), its.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials([pair], ca, require_client_auth=True)
    mutual = Tls(ca, mine.cert_chain_pems[0].bytes(), mine.private_key_pem.bytes())
    async with server(Script(), credentials) as address:
        async with backend(address, tls=mutual) as tfs:
            await tfs.versions("m")
            assert "y" in await tfs.predict(spec(), X, soon())
        for tls in (Tls(ca), Tls(trustme.CA().cert_pem.bytes(), mutual.cert, mutual.key), None):
            async with backend(address, tls=tls) as tfs:
                with pytest.raises(errors.BackendUnavailable):
                    await tfs.versions("m")
