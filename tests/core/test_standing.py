"""What is known of one model: which version a call gets, and why it gets none. No loop, no backend."""

from dataclasses import replace

import pytest

from seqserve.service import errors
from seqserve.service.backend.base import State, VersionState
from seqserve.service.core.standing import ModelStanding, Standing, VersionReport
from tests.core.fakes import served


def routable(number: int) -> VersionReport:
    """A version that passed."""
    return VersionReport(number, Standing.ROUTABLE, served(number))


def refused(number: int) -> VersionReport:
    """A version that did not."""
    return VersionReport(number, Standing.REFUSED, error=errors.GoldenFailed(f"examples of {number}"))


def made_for(task: str, number: int, name: str = "totals") -> VersionReport:
    """A version that passed, with a manifest of that task and name."""
    made = served(number)
    changed = made.manifest.model_copy(update={"task": task, "name": name})
    return VersionReport(number, Standing.ROUTABLE, replace(made, manifest=changed))


def put(model: ModelStanding, report: VersionReport) -> dict[int, str]:
    """Record a version, and return what has changed: the standing or the reason of each."""
    changed = model.record(report, VersionState(report.version, State.AVAILABLE, stamp="a"))
    return {r.version: r.error.reason if r.error else r.standing.value for r in changed}


def loading(number: int) -> VersionReport:
    """A version of which nothing is known yet."""
    return VersionReport(number, Standing.LOADING)


def standing(*reports: VersionReport) -> ModelStanding:
    """A model with these versions."""
    model = ModelStanding("totals")
    for report in reports:
        model.record(report, VersionState(report.version, State.AVAILABLE, stamp="a"))
    return model


def test_the_newest_routable_version_answers_and_each_when_it_is_named() -> None:
    """Numbers decide, not the order in which versions became known."""
    model = standing(routable(9), routable(10), refused(11), loading(12))
    assert [report.version for report in model.reports()] == [12, 11, 10, 9]
    assert model.newest() is model.current() is model.pinned(10)
    assert model.pinned(9).version == 9
    assert model.labelled("stable", 9) is model.pinned(9)


def test_where_none_can_be_called_the_error_says_why() -> None:
    """The newest refusal is named; without one the model is only not ready yet."""
    with pytest.raises(errors.NotReady, match=r"'totals' can be called yet$"):
        standing(loading(1)).newest()
    with pytest.raises(errors.NotReady, match="GOLDEN_FAILED: examples of 2") as caught:
        standing(refused(1), refused(2), loading(3)).newest()
    assert caught.value.retry_after == 1.0


def test_a_version_that_cannot_be_called_says_why() -> None:
    """Refused with its reason, loading, not there; and there for a label but not examined."""
    model = standing(refused(1), loading(2))
    with pytest.raises(errors.GoldenFailed, match="examples of 1"):
        model.pinned(1)
    with pytest.raises(errors.NotReady, match="version 2 is loading"):
        model.pinned(2)
    with pytest.raises(errors.VersionNotFound, match=r"no version 3; it has 1, 2$"):
        model.pinned(3)
    with pytest.raises(errors.NotReady, match=r"'canary'.*version 3, which is not examined yet"):
        model.labelled("canary", 3)


def test_what_is_examined_is_examined_again_only_once_it_changes() -> None:
    """Another state or stamp under a number is a change; a version that is new or loading is open anyway."""
    model = standing(routable(1), refused(2), loading(3))
    assert [number for number in (1, 2, 3, 4) if model.is_open(number)] == [3, 4]
    same, other = (VersionState(1, State.AVAILABLE, stamp=stamp) for stamp in "ab")
    assert not model.has_changed(same)
    assert model.has_changed(other)
    assert model.has_changed(VersionState(1, State.FAILED, stamp="a"))
    assert not model.has_changed(VersionState(4, State.AVAILABLE))


def test_a_version_that_is_gone_is_forgotten() -> None:
    """What it was answers no more calls, and the number may come back."""
    model = standing(routable(1), routable(2))
    model.forget(2)
    assert (model.numbers, model.newest().version) == ({1}, 1)
    assert model.is_open(2)


def test_a_version_for_another_task_is_refused_and_both_are_named() -> None:
    """Whatever its number: the version that answers sets the task of the name."""
    model = standing(made_for("translation", 5))
    assert put(model, made_for("sequence", 6, name="shop")) == {6: "TASK_DIFFERS"}
    assert put(model, made_for("sequence", 4, name="shop")) == {4: "TASK_DIFFERS"}
    assert put(model, made_for("translation", 7)) == {7: "ROUTABLE"}
    assert model.newest().version == 7
    with pytest.raises(
        errors.TaskDiffers, match=r"6 of model 'totals' is for sequence; version 5.*translation$"
    ):
        model.pinned(6)


def test_a_version_in_the_wrong_folder_makes_way_for_one_whose_manifest_names_the_model() -> None:
    """So a start that sees the wrong one first ends as one that sees it last."""
    model = standing(made_for("sequence", 5, name="shop"), made_for("sequence", 6, name="shop"))
    assert put(model, made_for("translation", 7)) == {7: "ROUTABLE", 6: "TASK_DIFFERS", 5: "TASK_DIFFERS"}
    assert model.newest().version == 7
    with pytest.raises(errors.TaskDiffers, match="version 7"):
        model.pinned(5)


def test_a_version_that_is_examined_again_still_sets_the_task() -> None:
    """After a restart of the model server the wrong one may pass first: it must not take the name over."""
    model = standing(made_for("translation", 5), loading(5))
    assert put(model, made_for("sequence", 6)) == {6: "TASK_DIFFERS"}
    assert put(model, made_for("translation", 5)) == {5: "ROUTABLE"}


def test_another_task_may_take_a_name_that_nobody_answers_under() -> None:
    """The version that set the task is gone, refused, or the one that was replaced."""
    for before in (standing(), standing(made_for("translation", 1)), standing(refused(5))):
        if 1 in before.numbers:
            before.forget(1)
        assert put(before, made_for("sequence", 6)) == {6: "ROUTABLE"}
    replaced = standing(made_for("translation", 1), loading(1))
    assert put(replaced, made_for("sequence", 1)) == {1: "ROUTABLE"}


def test_another_name_in_the_manifest_is_no_fault() -> None:
    """A copy under another name answers, and says which name it was exported under."""
    model = standing(made_for("translation", 1, name="en-de"), made_for("translation", 2))
    assert [served and served.exported_name for served in (model.pinned(1), model.pinned(2))] == [
        "en-de",
        None,
    ]
