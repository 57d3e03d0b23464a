"""Sessions: the answers of `:predict`, event by event, whoever appends, retries, or swaps the version."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.contract.items import answer_as_json
from seqserve.service.core.golden import first_difference
from seqserve.service.core.limits import Shares
from seqserve.service.core.sessions.sessions import Append, Appended, Bounds, in_memory
from seqserve.service.core.types import Call, ModelRef
from tests.core.fakes import Core, as_files, call, series
from tests.core.sessions.fakes import (
    ALICE,
    BOB,
    LABELS,
    LONGEST,
    VISITS,
    append,
    by,
    create,
    events,
    live,
    predicted,
    renamed,
    visits_manifest,
)

STEPS = st.tuples(st.sampled_from([*LABELS, "unheard", 7]), st.sampled_from([0.0, 0.25, 3.0, 99.0]))


def gone(core: Core, version: int) -> None:
    del core.backend.published["visits"][version]


def same(appended: Appended, wanted: dict[str, Any]) -> None:
    assert first_difference(wanted, answer_as_json(appended.prediction), 1e-5) is None


@given(st.lists(st.lists(STEPS, min_size=1, max_size=LONGEST), min_size=1, max_size=6), st.randoms())
async def test_an_answer_is_what_predict_gives_on_the_whole_history(histories: Any, random: Any) -> None:
    """Heads, warnings and where they come from, of many sessions at once, cut anywhere; so is a retry."""
    async with live() as core:

        async def one(history: Any) -> None:
            session, at = await create(core), 0
            labels, minutes = [label for label, _ in history], [time for _, time in history]
            while at < len(history):
                end = random.randint(at + 1, len(history))
                appended = await append(core, session, at, events(*labels[at:end], minutes=minutes[at:end]))
                assert appended.session.next_event == end
                wanted = await predicted(core, events(*labels[:end], minutes=minutes[:end]))
                same(appended, wanted)
                first = random.randrange(at + 1)
                again = await append(
                    core, session, first, events(*labels[first:end], minutes=minutes[first:end])
                )
                assert (again.prediction, again.session) == (appended.prediction, appended.session)
                at = end
            cut = random.randint(1, at)
            same(
                await append(core, session, 0, events(*labels[:cut], minutes=minutes[:cut])),
                await predicted(core, events(*labels[:cut], minutes=minutes[:cut])),
            )

        await asyncio.gather(*map(one, histories))


async def test_appends_of_many_sessions_share_batches() -> None:
    async with live(slots=1) as core:
        sessions = [await create(core) for _ in range(8)]
        core.backend.seconds = 1.0
        await asyncio.gather(*(append(core, session, 0, events("visit", "pay")) for session in sessions))
        sizes = [len(batch.inputs["event"]) for batch in core.backend.batches]
        assert (sum(sizes), len(sizes)) == (16, 2)
    assert series(core.metrics, "items_total")["visits", "1", "append", "rest", "OK", ""] == 8


async def test_points_in_time_are_counted_from_the_event_before() -> None:
    stamps = ["2026-05-01T09:30:00+02:00", "2026-05-01T07:31:30.5Z", "2026-05-02T07:31:30Z"]
    async with live() as core:
        session = await create(core)
        await append(core, session, 0, events("visit", "pay", minutes={"timestamps": stamps[:2]}))
        last = {"timestamps": stamps[2:]}
        with pytest.raises(errors.NegativeElapsed) as caught:
            await append(core, session, 2, events("visit", minutes={"timestamps": stamps[:1]}))
        assert caught.value.path == ("sequence", "minutes", "timestamps", 0)
        with pytest.raises(errors.WrongType, match="came with timestamps"):
            await append(core, session, 2, events("visit", minutes=[1.0]))
        appended = await append(core, session, 2, events("visit", minutes=last))
        wanted = await predicted(core, events("visit", "pay", "visit", minutes={"timestamps": stamps}))
        assert wanted["warnings"] == ["OUT_OF_RANGE"]
        same(appended, wanted)


REFUSED: list[tuple[int, dict[str, Any], dict[str, Any], str, tuple[Any, ...]]] = [
    (3, events("visit"), {}, "EVENT_GAP", ("first_event",)),
    (1, events("visit"), {}, "EVENT_CONFLICT", ("first_event",)),
    (0, events("visit", "pay", "pay", minutes=[1, 2, 3]), {}, "EVENT_CONFLICT", ("first_event",)),
    (-1, events("visit"), {}, "OPTION_OUT_OF_RANGE", ("first_event",)),
    (2, events("visit"), {"top_k": 0}, "OPTION_OUT_OF_RANGE", ("top_k",)),
    (2, events("visit"), {"heads": ("nope",)}, "UNKNOWN_HEAD", ("heads", 0)),
    (2, events(), {}, "EMPTY_SEQUENCE", ("sequence", "event")),
    (2, {"event": ["visit"]}, {}, "MISSING_FEATURE", ("sequence", "minutes")),
    (2, events("visit", minutes=[-1]), {}, "NEGATIVE_ELAPSED", ("sequence", "minutes", 0)),
    (2, events(*["visit"] * (LONGEST - 1)), {}, "SEQUENCE_TOO_LONG", ("sequence",)),
]


@pytest.mark.parametrize(("first", "features", "options", "reason", "path"), REFUSED)
async def test_a_refused_append_changes_nothing(
    first: int, features: dict[str, Any], options: dict[str, Any], reason: str, path: tuple[Any, ...]
) -> None:
    async with live() as core:
        session = await create(core)
        before = await append(core, session, 0, events("visit", "pay"))
        with pytest.raises(errors.SeqserveError) as caught:
            await append(core, session, first, features, **options)
        assert (caught.value.reason, caught.value.path) == (reason, path)
        assert await core.gateway.session(VISITS, session.id, by()) == before.session
    counted = series(core.metrics, "requests_total")
    assert counted["visits", "_none", "append", "rest", caught.value.code.value, reason] == 1


async def test_a_failing_model_changes_nothing() -> None:
    """The first of two events was taken; the append as a whole was not."""
    async with live() as core:
        session, function = await create(core), core.backend.function

        def failing(spec: Any, inputs: Any) -> Any:
            if (inputs["event"] == 3).any():
                raise errors.BackendFailed("as asked")
            return function(spec, inputs)

        core.backend.function = failing
        with pytest.raises(errors.BackendFailed):
            await append(core, session, 0, events("visit", "pay"))
        core.backend.function = function
        appended = await append(core, session, 0, events("visit"))
        assert appended.session.next_event == 1


@pytest.mark.parametrize("slow", ["model", "store"])
async def test_an_append_ends_at_its_deadline_and_may_be_sent_again(slow: str) -> None:
    """Where the store was slow, it may have been kept by then: the same append has its answer."""
    async with live() as core:
        session = await create(core)
        store = core.gateway._sessions._store
        put, gate = store.put, asyncio.Event()

        async def late(*given: Any) -> bool:
            kept = await put(*given)
            await gate.wait()
            return kept

        if slow == "store":
            store.put = late  # type: ignore[method-assign]
        else:
            core.backend.gates[1] = gate
        asked = call(1.0)
        asked = Call(asked.transport, asked.deadline, principal=ALICE)
        with pytest.raises(errors.DeadlineExceeded):
            await core.gateway.append(VISITS, session.id, Append(0, events("visit")), asked)
        gate.set()
        kept = await core.gateway.session(VISITS, session.id, by())
        assert kept.next_event == (slow == "store")
        assert (await append(core, session, 0, events("visit"))).session.next_event == 1
    counted = series(core.metrics, "requests_total")
    assert counted["visits", "_none", "append", "rest", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"] == 1


async def test_a_session_is_its_makers_and_is_found_where_it_was_made() -> None:
    async with live() as core:
        core.backend.labels["visits", "stable"] = 1
        await core.catalog.refresh()
        pinned = await create(core, ModelRef("visits", version=1))
        labelled = await create(core, ModelRef("visits", label="stable"))
        for session in (pinned, labelled):
            await append(core, session, 0, events("visit"))
            for ref, who in (
                (VISITS, BOB),
                (ModelRef("visits", version=2), ALICE),
                (ModelRef("visits", label="other"), ALICE),
            ):
                with pytest.raises(errors.SessionNotFound):
                    await core.gateway.session(ref, session.id, by(who))
            with pytest.raises(errors.SessionNotFound):
                await append(core, session, 1, events("visit"), BOB)
            with pytest.raises(errors.SessionNotFound):
                await core.gateway.delete_session(VISITS, session.id, by(BOB))
            assert (await core.gateway.session(session.ref, session.id, by())).next_event == 1
            await core.gateway.delete_session(session.ref, session.id, by())
            with pytest.raises(errors.SessionNotFound):
                await append(core, session, 1, events("visit"))
        for id in ("", "x" * 22, "../" * 9, "x" * 999):
            with pytest.raises(errors.SessionNotFound):
                await core.gateway.session(VISITS, id, by())


@pytest.mark.parametrize("same_event", [True, False])
async def test_of_two_appends_at_once_one_is_first(same_event: bool) -> None:
    """The other is told so, or given the same answer where it brings the same event."""
    async with live() as core:
        session = await create(core)
        core.backend.seconds = 1.0
        labels = ("pay", "pay" if same_event else "search")
        got = await asyncio.gather(
            *(append(core, session, 0, events(label)) for label in labels), return_exceptions=True
        )
        if same_event:
            assert got[0] == got[1]
        else:
            assert sorted(type(one).__name__ for one in got) == ["Appended", "EventConflict"]
        assert (await core.gateway.session(VISITS, session.id, by())).next_event == 1


async def test_a_session_moves_to_a_new_version_by_its_history() -> None:
    """Labels have other ids there, and one is none; what was answered before is answered again as it was."""
    async with live() as core:
        session = await create(core)
        old = await append(core, session, 0, events("visit", "search", "pay"))
        core.backend.put("visits", 2, renamed())
        await core.catalog.refresh()
        assert await append(core, session, 2, events("pay")) == old
        new = await append(core, session, 3, events("leave"))
        assert (new.session.version, new.session.next_event) == (2, 4)
        same(new, await predicted(core, events("visit", "search", "pay", "leave"), 2))
        assert new.prediction.warnings == ("UNSEEN_EVENT_TYPE",)
    assert series(core.metrics, "session_moves_total") == {("moved",): 1}


@pytest.mark.parametrize("why", ["too long", "pinned", "cannot be read"])
async def test_a_session_that_cannot_move_stays_until_its_version_goes(why: str) -> None:
    async with live() as core:
        if why == "too long":
            core.gateway._sessions = in_memory(core.catalog, core.runner, core.metrics, Bounds(replay=1))
        session = await create(core, ModelRef("visits", version=1 if why == "pinned" else None))
        await append(core, session, 0, events("visit", "pay"))
        limits = {"sequence_steps": 1} if why == "cannot be read" else {"sequence_steps": LONGEST}
        core.backend.put("visits", 2, renamed(limits=limits))
        await core.catalog.refresh()
        appended = await append(core, session, 2, events("search"))
        assert appended.session.version == 1
        same(appended, await predicted(core, events("visit", "pay", "search"), 1))
        gone(core, 1)
        await core.catalog.refresh()
        for number, label in ((3, "visit"), (2, "search")):
            if why == "too long" and number == 2:
                continue  # which the new version can answer
            with pytest.raises(errors.SessionExpired):
                await append(core, session, number, events(label))
        if why == "too long":
            again = await append(core, session, 2, events("search"))
            assert again.session.version == 2
            same(again, await predicted(core, events("visit", "pay", "search"), 2))
        assert (await core.gateway.session(VISITS, session.id, by())).next_event == 3


async def test_a_version_that_goes_while_it_is_called_is_left_for_the_next() -> None:
    async with live() as core:
        session, function = await create(core), core.backend.function
        await append(core, session, 0, events("visit"))

        def swapped(spec: Any, inputs: Any) -> Any:
            if spec.version == 1:
                core.backend.published["visits"].pop(1, None)
                core.backend.put("visits", 2, renamed())
                raise errors.VersionNotFound("gone")
            return function(spec, inputs)

        core.backend.function = swapped
        appended = await append(core, session, 1, events("pay"))
        assert appended.session.version == 2
        same(appended, await predicted(core, events("visit", "pay")))


UNSTEPPED: list[tuple[str, dict[str, Any]]] = [
    (
        "no signature 'step'",
        {"signatures": {"serving_default": visits_manifest()["signatures"]["serving_default"]}},
    ),
    (
        "up to the last event",
        {
            "features": {
                **visits_manifest()["features"],
                "minutes": {"kind": "elapsed", "unit": "minutes", "origin": "last"},
            }
        },
    ),
    ("needs 2 events", {"limits": {"sequence_steps": LONGEST, "sequence_least": 2}}),
]


@pytest.mark.parametrize(("why", "changes"), UNSTEPPED)
async def test_a_model_without_steps_has_no_sessions(why: str, changes: dict[str, Any]) -> None:
    example = {"event": ["visit", "visit"], "minutes": [0, 0]}
    wait = {"value": 1 + 9 / 16, "unit": "minutes", "intervals": []}
    items = [{"heads": {"wait": wait}, "warnings": []}]
    examples = [{"request": {"sequences": [example], "heads": ["wait"]}, "items": items}]
    async with live() as core:
        core.backend.put("visits", 1, as_files(visits_manifest(**changes, examples=examples)), stamp=2)
        await core.catalog.refresh()
        with pytest.raises(errors.StepUnsupported, match=why):
            await create(core)


async def test_scopes_limits_and_draining_hold() -> None:
    """Who may predict may have sessions; an append takes a cell an event; who drains takes nothing."""
    narrow = replace(ALICE, scopes=frozenset({("translate", "visits")}))
    async with live(shares=Shares(cells_per_second=1.0), max_request_cells=5) as core:
        session = await create(core)
        asked = by()
        with pytest.raises(errors.PermissionDenied):
            await create(core, who=narrow)
        with pytest.raises(errors.PermissionDenied):
            await append(core, session, 0, events("visit"), narrow)
        with pytest.raises(errors.RequestTooCostly):
            await append(core, session, 0, events(*["visit"] * 6))
        await append(core, session, 0, events("visit", "visit"))
        with pytest.raises(errors.RateLimited):
            await append(core, session, 2, events("visit"))
        with pytest.raises(errors.ModelNotFound):
            await core.gateway.session(ModelRef("nope"), session.id, asked)
        await core.gateway.drain(0)
        with pytest.raises(errors.Draining):
            await append(core, session, 2, events("visit"))
        with pytest.raises(errors.Draining):
            await create(core)


async def test_a_session_that_grows_too_large_is_refused() -> None:
    async with live() as core:
        core.gateway._sessions = in_memory(core.catalog, core.runner, core.metrics, Bounds(data=2000))
        session = await create(core)
        with pytest.raises(errors.SequenceTooLong, match="limit of 2000"):
            await append(core, session, 0, events("x" * 2000))
        assert (await append(core, session, 0, events("x"))).session.next_event == 1
