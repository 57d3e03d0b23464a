"""Items and the gateway: each item's fate, the request's end, and every end counted once."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.items import FailedItem, PredictBody, Prediction, TranslateBody
from seqserve.service.contract.padding import Array
from seqserve.service.core.limits import Shares
from seqserve.service.core.queue import Budget
from seqserve.service.core.tasks import SEQUENCE
from seqserve.service.core.types import Answered, Asked, ModelRef, Principal
from tests.core.fakes import (
    POISON,
    Core,
    as_files,
    call,
    echo,
    running,
    sequence_manifest,
    series,
    settle,
    total,
    totals,
    translation_manifest,
)

TOTALS = ModelRef("totals")
LABELS = ("totals", "1", "predict", "rest")
# an item, and the reason and place of its fault
GOOD = ({"x": [1, 2, 3]}, "", ())
BAD: list[tuple[dict[str, Any], str, tuple[Any, ...]]] = [
    ({"x": []}, "EMPTY_SEQUENCE", ("x",)),
    ({"x": [1] * 17}, "SEQUENCE_TOO_LONG", ("x",)),
    ({"x": [1], "y": [1]}, "UNKNOWN_FEATURE", ("y",)),
    ({"x": [1, "a"]}, "WRONG_TYPE", ("x", 1)),
    ({"x": [POISON]}, "BACKEND_FAILED", ()),
]


def models(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer for both models."""
    return (totals if spec.model == "totals" else echo)(spec, inputs)


async def load(core: Core, tokenizer: bytes = b"") -> None:
    """Make `totals` callable, and `echo` where there is a tokenizer."""
    core.backend.put("totals", 1, as_files(sequence_manifest()))
    if tokenizer:
        core.backend.put("echo", 1, as_files(translation_manifest(), **{"en.model": tokenizer}))
    await core.catalog.refresh()
    core.backend.batches.clear()  # of the golden examples


def body(*items: dict[str, Any], **options: Any) -> PredictBody:
    return PredictBody(sequences=list(items), **options)


async def hold(core: Core, count: int, values: list[float]) -> list[asyncio.Task[Answered]]:
    """Ask so many times, each as soon as the one before has gone as far as it can."""
    held = []
    for _ in range(count):
        held.append(asyncio.create_task(core.ask(TOTALS, body({"x": values}), call())))
        await settle()
    return held


def outcomes(core: Core, name: str = "requests_total") -> dict[tuple[str, ...], float]:
    """Return what was counted, and check that every request was timed once, and none is left open."""
    requests = series(core.metrics, "requests_total")
    timed = series(core.metrics, "request_seconds_count")
    assert sum(requests.values()) == sum(timed.values())
    assert {labels[:4] for labels in requests} == set(timed)
    assert set(series(core.metrics, "in_flight").values()) <= {0}
    return series(core.metrics, name)


@given(st.lists(st.sampled_from([GOOD, GOOD, *BAD]), min_size=1, max_size=8))
async def test_a_list_in_is_a_list_out_and_each_item_has_its_own_fate(
    items: list[tuple[dict[str, Any], str, tuple[Any, ...]]],
) -> None:
    async with running() as core:
        await load(core)
        before = series(core.metrics, "stage_seconds_count")
        request = core.ask(TOTALS, body(*(item for item, _, _ in items)), call())
        reasons = [reason for _, reason, _ in items]
        if all(reasons):
            with pytest.raises(errors.SeqserveError) as caught:
                await request
            assert caught.value.reason == reasons[0]
            places = [(violation.path, violation.reason) for violation in caught.value.violations]
            assert places == [(("sequences", n, *path), reason) for n, (_, reason, path) in enumerate(items)]
            end = (caught.value.code.value, reasons[0])
        else:
            answered = await request
            assert (answered.model, answered.version) == ("totals", 1)
            assert [i.error.reason if isinstance(i, FailedItem) else "" for i in answered.items] == reasons
            pointers = [i.error.pointer for i in answered.items if isinstance(i, FailedItem)]
            wanted = [("sequences", n, *path) for n, (_, reason, path) in enumerate(items) if reason]
            assert pointers == wanted
            good = {i.heads["total"].value for i in answered.items if isinstance(i, Prediction)}
            assert good == {total([1, 2, 3])}
            end = ("OK", "")
    assert outcomes(core) == {(*LABELS, *end): 1}
    counted = {labels[-1]: count for labels, count in outcomes(core, "items_total").items()}
    assert counted == {reason: reasons.count(reason) for reason in reasons}
    failed = reasons.count("BACKEND_FAILED")
    assert outcomes(core, "rejected_total") == ({("BACKEND_FAILED",): failed} if failed else {})
    after = series(core.metrics, "stage_seconds_count")
    stages = {labels[-1]: count - before.get(labels, 0) for labels, count in after.items()}
    assert stages["encode"] == len(items)
    assert stages["decode"] == reasons.count("")
    assert stages["validate"] == 1


REFUSED: list[tuple[ModelRef, PredictBody | TranslateBody, str, str, tuple[str, str]]] = [
    (TOTALS, body(), "EMPTY_REQUEST", "INVALID_ARGUMENT", ("totals", "1")),
    (TOTALS, body(*[{"x": [1]}] * 65), "TOO_MANY_ITEMS", "INVALID_ARGUMENT", ("totals", "1")),
    (TOTALS, body({"x": [1]}, top_k=0), "OPTION_OUT_OF_RANGE", "INVALID_ARGUMENT", ("totals", "1")),
    (ModelRef("who"), body({"x": [1]}), "MODEL_NOT_FOUND", "NOT_FOUND", ("_other", "_none")),
    (ModelRef("x" * 99), body({"x": [1]}), "MODEL_NOT_FOUND", "NOT_FOUND", ("_other", "_none")),
    (ModelRef("totals", version=9), body({"x": [1]}), "VERSION_NOT_FOUND", "NOT_FOUND", ("totals", "_none")),
    (ModelRef("totals", label="x"), body({"x": [1]}), "LABEL_NOT_FOUND", "NOT_FOUND", ("totals", "_none")),
    (TOTALS, TranslateBody(texts=["a"]), "WRONG_TASK", "FAILED_PRECONDITION", ("totals", "_none")),
    (ModelRef("echo"), body({"x": [1]}), "WRONG_TASK", "FAILED_PRECONDITION", ("echo", "_none")),
]


async def ask(core: Core, ref: ModelRef, asked: PredictBody | TranslateBody) -> Answered:
    return await core.ask(ref, asked, call(transport="grpc" if isinstance(asked, TranslateBody) else "rest"))


@pytest.mark.parametrize(("ref", "asked", "reason", "code", "who"), REFUSED, ids=[r[2] for r in REFUSED])
async def test_a_refused_request_costs_nothing_and_is_counted_under_names_that_exist(
    ref: ModelRef,
    asked: PredictBody | TranslateBody,
    reason: str,
    code: str,
    who: tuple[str, str],
    tokenizer: bytes,
) -> None:
    async with running(models) as core:
        await load(core, tokenizer)
        with pytest.raises(errors.SeqserveError) as caught:
            await ask(core, ref, asked)
        assert (caught.value.reason, caught.value.code) == (reason, code)
    way = ("translate", "grpc") if isinstance(asked, TranslateBody) else ("predict", "rest")
    assert outcomes(core) == {(*who, *way, code, reason): 1}
    assert outcomes(core, "items_total") == {}
    assert core.backend.batches == []


@pytest.mark.parametrize(
    ("ref", "count", "reason"), [(TOTALS, 65, "TOO_MANY_ITEMS"), (ModelRef("who"), 1, "MODEL_NOT_FOUND")]
)
async def test_what_is_refused_is_not_converted(ref: ModelRef, count: int, reason: str) -> None:
    def convert() -> PredictBody:
        raise AssertionError("converted")

    async with running() as core:
        await load(core)
        with pytest.raises(errors.SeqserveError) as caught:
            await core.gateway.answer(SEQUENCE, ref, Asked(count, convert), call())
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("seconds", "reason"), [(1.0, "DEADLINE_EXCEEDED"), (None, "CANCELLED")], ids=["late", "gone"]
)
async def test_a_request_that_ends_early_is_counted_timed_and_leaves_nothing_open(
    seconds: float | None, reason: str
) -> None:
    async with running() as core:
        await load(core)
        core.backend.gates[1] = asyncio.Event()
        request = asyncio.create_task(core.ask(TOTALS, body({"x": [1]}, {"x": [2]}), call(seconds or 100)))
        await settle()
        assert series(core.metrics, "in_flight") == {("rest",): 1}
        if seconds is None:
            await asyncio.sleep(1)
            request.cancel()
        ended = (await asyncio.gather(request, return_exceptions=True))[0]
        assert isinstance(ended, errors.DeadlineExceeded if seconds else asyncio.CancelledError)
        core.backend.gates[1].set()
    assert outcomes(core) == {(*LABELS, reason, reason): 1}
    assert series(core.metrics, "request_seconds_sum")[LABELS] == pytest.approx(1.0, abs=1e-3)


async def test_who_finds_no_room_is_refused_before_the_request_is_read() -> None:
    async with running(budget=Budget(1, 64, 3)) as core:
        await load(core)
        core.gateway.check_room(SEQUENCE, TOTALS, call())  # nobody waits
        core.backend.gates[1] = asyncio.Event()
        held = await hold(core, 3, [1, 2])  # two are run, one waits
        with pytest.raises(errors.QueueFull, match="and 2 more would pass the limit of 3"):
            core.gateway.check_room(SEQUENCE, TOTALS, call())
        core.gateway.check_room(SEQUENCE, ModelRef("other"), call())  # `answer` says that there is none
        core.backend.gates[1].set()
        await asyncio.gather(*held)
    refused = ("totals", "_none", "predict", "rest", "RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert outcomes(core) == {refused: 1, (*LABELS, "OK", ""): 3}
    assert outcomes(core, "rejected_total") == {("QUEUE_FULL",): 1}


async def test_a_fault_of_ours_is_an_items_own_and_leaves_no_item_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as core:
        await load(core)
        plan = (await core.catalog.resolve(TOTALS)).codec.plan(body({"x": [1]}))
        inner = type(plan).encode

        def encode(self: Any, item: dict[str, Any]) -> Any:
            return inner(self, item) if item["x"] != [0] else 1 / 0

        monkeypatch.setattr(type(plan), "encode", encode)
        answered = await core.ask(TOTALS, body({"x": [0]}, {"x": [1]}), call())
        assert isinstance(answered.items[0], FailedItem)
        assert answered.items[0].error.reason == "UNEXPECTED"
        assert isinstance(answered.items[1], Prediction)
    assert outcomes(core) == {(*LABELS, "OK", ""): 1}


async def test_a_request_is_taken_or_refused_whole_and_alone_is_always_taken() -> None:
    async with running(budget=Budget(1, 16, 8)) as core:
        await load(core)
        items = [{"x": [1] * 4}] * 9
        answered = await core.ask(TOTALS, body(*items), call())
        assert {type(item) for item in answered.items} == {Prediction}
        core.backend.gates[1] = asyncio.Event()
        held = await hold(core, 4, [1] * 4)  # two compute, two wait
        with pytest.raises(errors.QueueFull) as caught:
            await core.ask(TOTALS, body({"x": [1]}, {"x": []}, {"x": [1]}), call())
        assert (caught.value.retry_after or 0.0) >= 1.0
        core.backend.gates[1].set()
        await asyncio.gather(*held)
    full = (*LABELS, "RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert outcomes(core) == {(*LABELS, "OK", ""): 5, full: 1}
    assert outcomes(core, "items_total") == {(*LABELS, "OK", ""): 13, full: 3}
    assert outcomes(core, "rejected_total") == {("QUEUE_FULL",): 3}


async def test_a_request_that_the_queue_refuses_costs_nothing_of_its_callers_rate() -> None:
    """However often it is tried: what the rate still has is there for the next that finds room."""
    async with running(budget=Budget(1, 64, 3), shares=Shares(cells_per_second=4)) as core:
        await load(core)
        core.backend.gates[1] = asyncio.Event()
        held = await hold(core, 3, [1, 2])  # two are run, one waits: six cells of eight
        for _ in range(5):
            with pytest.raises(errors.QueueFull):
                await core.ask(TOTALS, body({"x": [1, 2]}), call())
        core.backend.gates[1].set()
        await asyncio.gather(*held)
        assert await core.ask(TOTALS, body({"x": [1, 2]}), call())


@given(st.lists(st.integers(0, 16), min_size=1, max_size=12), st.integers(1, 100), st.integers(1, 100))
async def test_a_requests_cells_are_known_before_any_of_it_waits(
    lengths: list[int], most: int, share: int
) -> None:
    """Above the limit of one request it is the caller's fault; above a principal's share it may wait."""
    cells = sum(lengths)
    async with running(max_request_cells=most, shares=Shares(cells=share)) as core:
        await load(core)
        core.backend.gates[1] = asyncio.Event()
        (first,) = await hold(core, 1, [1])
        asked, batches = call(), len(core.backend.batches)
        second = asyncio.create_task(core.ask(TOTALS, body(*({"x": [1] * n} for n in lengths)), asked))
        await settle()
        core.backend.gates[1].set()
        got = (await asyncio.gather(second, first, return_exceptions=True))[0]
        visit = asked.visit
        assert (visit.items, visit.model, visit.version) == (len(lengths), "totals", 1)
        if cells > most:
            assert isinstance(got, errors.RequestTooCostly)
            assert f"more than the limit of {most} for one request" in got.message
        elif cells + 1 > share:
            assert isinstance(got, errors.RateLimited)
            assert f"1 cells are open, and this request takes {cells} more" in got.message
        else:
            assert isinstance(got, Answered | errors.EmptySequence)
        refused = isinstance(got, errors.RateLimited | errors.RequestTooCostly)
        assert (len(core.backend.batches) == batches) == (refused or not cells)
        assert visit.cells == (0 if cells > most else cells)


async def test_items_that_cannot_be_encoded_say_why_however_busy_the_service_is() -> None:
    """There is nothing of them to wait, so that no limit of what may wait is an answer."""
    async with running(shares=Shares(cells=1)) as core:
        await load(core)
        core.backend.gates[1] = asyncio.Event()
        (held,) = await hold(core, 1, [1, 2])  # alone it may take more
        with pytest.raises(errors.EmptySequence) as caught:
            await core.ask(TOTALS, body({"x": []}, {"x": [1, "a"]}), call())
        assert [fault.reason for fault in caught.value.violations] == ["EMPTY_SEQUENCE", "WRONG_TYPE"]
        core.backend.gates[1].set()
        await held


async def test_draining_takes_nothing_new_and_waits_for_what_is_open() -> None:
    loop = asyncio.get_running_loop()
    async with running() as core:
        await load(core)
        assert core.gateway.is_ready
        core.backend.gates[1] = asyncio.Event()
        (held,) = await hold(core, 1, [1])
        draining = asyncio.create_task(core.gateway.drain(50.0))
        await settle()
        assert not core.gateway.is_ready
        with pytest.raises(errors.Draining) as caught:
            await core.ask(TOTALS, body({"x": [1]}), call())
        assert caught.value.retry_after == 1.0
        await settle()
        assert not draining.done()
        core.backend.gates[1].set()
        await asyncio.gather(held, draining)
        assert loop.time() < 1.0
    labels = ("totals", "_none", "predict", "rest", "UNAVAILABLE", "DRAINING")
    assert outcomes(core) == {(*LABELS, "OK", ""): 1, labels: 1}


async def test_draining_gives_up_on_what_does_not_end() -> None:
    loop = asyncio.get_running_loop()
    async with running() as core:
        await load(core)
        core.backend.gates[1] = asyncio.Event()
        (held,) = await hold(core, 1, [1])
        await core.gateway.drain(50.0)
        assert loop.time() == pytest.approx(50.0, abs=1e-3)
        core.backend.gates[1].set()
        await held


async def test_translations_go_the_same_way(tokenizer: bytes) -> None:
    async with running(models) as core:
        await load(core, tokenizer)
        texts = ["two dogs run", "", "a cat", "x" * 101]
        answered = await core.ask(ModelRef("echo"), TranslateBody(texts=texts), call())
        got = [item.error.reason if isinstance(item, FailedItem) else item.text for item in answered.items]
        assert got == ["two dogs run", "EMPTY_TEXT", "a cat", "TEXT_TOO_LONG"]
    counted = {labels[-1]: count for labels, count in outcomes(core, "items_total").items()}
    assert counted == {"": 2, "EMPTY_TEXT": 1, "TEXT_TOO_LONG": 1}


async def test_warnings_are_counted_under_the_version(tokenizer: bytes) -> None:
    def endless(spec: Spec, inputs: Tensors) -> dict[str, Array]:
        outputs = echo(spec, inputs)
        return {**outputs, "lengths": outputs["lengths"] - 1}

    async with running(endless) as core:
        cut = {"text": "a", "score": -3.0, "warnings": ["TRUNCATED"]}
        manifest = translation_manifest(examples=[{"request": {"texts": ["a"]}, "items": [cut]}])
        core.backend.put("echo", 1, as_files(manifest, **{"en.model": tokenizer}))
        await core.catalog.refresh()
        await core.ask(ModelRef("echo"), TranslateBody(texts=["two dogs", "a cat"]), call())
        assert series(core.metrics, "warnings_total") == {("echo", "1", "TRUNCATED"): 2}


@given(st.sampled_from(["totals", "nope"]), st.booleans(), st.booleans())
async def test_what_a_caller_may_not_do_is_refused_before_anything_is_looked_up(
    name: str, is_draining: bool, asks_first: bool
) -> None:
    """Whatever the model and the service's state; counted once, and no batch is made."""
    async with running() as core:
        await load(core)
        if is_draining:
            await core.gateway.drain(1.0)
        narrow = Principal("narrow", frozenset({("translate", "*"), ("predict", "other")}))
        asking = replace(call(), principal=narrow)

        async def request() -> None:
            if asks_first:  # as a door does, before it reads the request
                core.gateway.check_room(SEQUENCE, ModelRef(name), asking)
            await core.ask(ModelRef(name), body({"x": [1]}), asking)

        with pytest.raises(errors.PermissionDenied, match=rf"'narrow' .* predict .*predict:{name}"):
            await request()
        assert core.backend.batches == []
    known = "totals" if name == "totals" else "_other"
    denied = (known, "_none", "predict", "rest", "PERMISSION_DENIED", "PERMISSION_DENIED")
    assert outcomes(core) == {denied: 1}


async def test_a_caller_sees_the_models_that_it_may_do_anything_with() -> None:
    """And no other: it is denied a description, as it would be if there were none."""
    async with running() as core:
        await load(core)
        for scopes, seen in (((("predict", "totals"),), True), ((("translate", "*"),), True), ((), False)):
            who = Principal("who", frozenset(scopes))
            assert [model.name for model in core.gateway.models(who)] == (["totals"] if seen else [])
            if seen:
                assert core.gateway.model("totals", who).name == "totals"
            else:
                with pytest.raises(errors.PermissionDenied, match="'who' may not see model 'totals'"):
                    core.gateway.model("totals", who)
