"""Several addresses, or one that comes and goes: who is called, what is tried again, what is forgotten."""

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from seqserve.service import errors
from seqserve.service.backend.base import State
from seqserve.service.backend.tfserving import RetryBudget, TfServingBackend
from seqserve.service.metrics import Metrics
from seqserve.tfserving.predict_pb2 import PredictRequest, PredictResponse
from tests.backend.rig import Code, X, backend, changed, samples, soon, spec, until, until_calls
from tests.backend.wire import GONE, Held, Refuses, Script, answer, server


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


async def test_a_start_with_many_versions_leaves_the_server_threads() -> None:
    """Manifests are fetched two at a time: a call beyond the server's threads is refused, not queued."""
    script = Script(manifests=dict.fromkeys(range(1, 9), b"content"))
    real, now, most = script.manifest, 0, 0

    async def manifest(request: PredictRequest) -> PredictResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.01)
        now -= 1
        return real(request)

    script.manifest = manifest  # type: ignore[method-assign,assignment]
    async with server(script) as address, backend(address) as tfs:
        assert {state.state for state in await tfs.versions("m")} == {State.AVAILABLE}
        assert most == 2


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
        raise GONE

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
    dying, living, held = Script(), Script(), Held()
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
        # those that waited may still have been sent there, before its end was noticed
        assert 2 <= samples(dead, "backend_retries_total")[()] <= 8
        assert "y" in await dead.predict(spec(), X, soon())
        await until(dead, state=State.AVAILABLE)
        assert dead.slots == 2
        dying.predict = Script().predict
        async with server(dying):
            await until_calls(dying, 3, dead)
        await dead.close()
    assert samples(dead, "backend_up") == {}


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
    async with asyncio.timeout(10):
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


async def test_a_name_with_several_addresses_is_several_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each resolved address has a channel; one that is lost is closed; a failing resolver changes nothing."""
    first, second = Script(), Script()
    resolved = ["127.0.0.1"]

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        if host != "tfserving":
            raise socket.gaierror("no such host")
        return [(socket.AF_INET, 1, 6, "", (ip, port)) for ip in resolved]

    async with server(first) as address:
        port = address.rpartition(":")[2]
        second.port = int(port)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with backend(f"tfserving:{port}", "elsewhere:1") as tfs:
            await tfs.versions("m")
            assert list(samples(tfs, "backend_up")) == [(f"ipv4:127.0.0.1:{port}",)]
            resolved[:] = ["127.0.0.1", "127.0.0.2"]
            await tfs.models()
            await tfs.versions("m")
            assert len(samples(tfs, "backend_up")) == 2
            resolved[:] = ["127.0.0.2"]
            await tfs.models()
            await asyncio.sleep(0)
            assert list(samples(tfs, "backend_up")) == [(f"ipv4:127.0.0.2:{port}",)]


async def test_an_answer_that_outlived_its_connection_is_not_trusted() -> None:
    """It may come from another server by now: the call ends as UNAVAILABLE, or is made elsewhere."""
    held = Held()
    script = Script(predict=held)
    leaving = server(script, grace=5)
    async with backend(await leaving.__aenter__()) as tfs:
        await tfs.versions("m")
        asking = asyncio.create_task(tfs.predict(spec(), X, soon()))
        await held.entered.wait()
        stopping = asyncio.create_task(leaving.__aexit__(None, None, None))
        await changed(tfs)
        held.gate.set()
        with pytest.raises(errors.BackendUnavailable):
            await asking
        await stopping


async def test_a_call_at_an_address_that_leaves_may_end() -> None:
    """A name that moves on to another address cancels nobody; calls under way are answered where they are."""
    held = Held()
    old, new = Script(predict=held), Script()
    async with server(old) as a, server(new) as b, backend(a) as tfs:
        await tfs.versions("m")
        under_way = asyncio.create_task(tfs.predict(spec(), X, soon()))
        await held.entered.wait()
        tfs._addresses = [b]
        await tfs.models()
        await tfs.versions("m")
        assert "y" in await tfs.predict(spec(), X, soon())
        held.gate.set()
        assert "y" in await under_way


async def test_a_call_that_waits_at_an_address_that_leaves_goes_elsewhere() -> None:
    """It had not begun there: the address that is left answers it."""
    held = Held()
    old, new = Script(predict=held), Script()
    async with server(old) as a, server(new) as b, backend(a, calls=1) as tfs:
        await tfs.versions("m")
        both = [asyncio.create_task(tfs.predict(spec(), X, soon())) for _ in range(2)]
        await held.entered.wait()
        tfs._addresses = [b]
        await tfs.models()
        await tfs.versions("m")
        held.gate.set()
        assert all("y" in outputs for outputs in await asyncio.gather(*both))
        assert (len(old.calls), len(new.calls)) == (1, 1)


async def test_a_channel_closed_under_a_call_is_no_cancel() -> None:
    """The call goes to another address, or ends as UNAVAILABLE: nobody waits for ever."""
    held = Held()
    async with server(Script(predict=held)) as a, backend(a) as tfs:
        await tfs.versions("m")
        asking = asyncio.create_task(tfs.predict(spec(), X, soon()))
        await held.entered.wait()
        (replica,) = tfs._replicas.values()
        await replica._channel.close(None)
        with pytest.raises(errors.BackendUnavailable):
            await asking


async def test_an_address_that_hangs_leaves_the_others_their_slots() -> None:
    """Its batches count as used for as long as they hang, so the address that answers still gets its own."""
    good, bad = Script(), Script(predict=Held())
    async with server(good) as a, server(bad) as b, backend(a, b, look_seconds=0.2) as tfs:
        await tfs.versions("m")
        assert tfs.slots == 4
        stuck = [asyncio.create_task(tfs.predict(spec(), X, soon())) for _ in range(4)]
        await until_calls(bad, 2)
        answered, gate = bad.status, asyncio.Event()

        async def mute(request: Any) -> Any:
            await gate.wait()
            return answered(request)

        bad.status = mute  # type: ignore[method-assign,assignment]
        await tfs.versions("m")
        assert sorted(samples(tfs, "backend_up").values()) == [0, 1]
        assert tfs.slots == 4
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert tfs.slots == 2
        assert "y" in await tfs.predict(spec(), X, soon())
        assert len(bad.calls) == 2  # the one that answers is preferred
        gate.set()
        await tfs.versions("m")
        assert tfs.slots == 4


async def test_many_addresses_without_the_version_are_passed_by() -> None:
    """NOT_FOUND does not count as an attempt: of five addresses the last, which has the version, answers."""

    def gone(request: PredictRequest) -> None:
        raise GONE

    scripts = [Script(predict=gone) for _ in range(4)] + [Script()]
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(server(script)) for script in scripts]
        tfs = await stack.enter_async_context(backend(*addresses))
        await tfs.versions("m")
        assert "y" in await tfs.predict(spec(), X, soon())
        assert samples(tfs, "backend_retries_total") == {(): 0}


async def test_a_busy_address_is_taken_at_its_last_word() -> None:
    """A look that is refused for want of threads changes nothing while the connection stands."""
    script, other = Script(manifests={1: b"one", 2: b"two"}), Script()
    async with server(script) as a, server(other) as b, backend(a, b) as tfs:
        await tfs.versions("m")

        def busy(request: Any) -> None:
            raise Refuses(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")

        script.status = busy  # type: ignore[method-assign,assignment]
        assert [state.version for state in await tfs.versions("m")] == [2, 1]
