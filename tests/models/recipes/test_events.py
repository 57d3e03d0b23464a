"""Event models from a log to a certified version: two origins of elapsed time, and the step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqserve.models.check import check_version
from seqserve.models.check.steps import StepDiffers
from seqserve.models.config import ConfigInvalid, EventsConfig, read_config
from seqserve.models.data.cases import Case
from seqserve.models.export import export_version
from seqserve.models.recipes.events import EventsRecipe, features_of
from seqserve.service.contract.features import UNSEEN_EVENT_TYPE, SequenceEncoder
from seqserve.service.contract.manifest import FILE_NAME, Elapsed
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.errors import UnknownCategory
from tests.trained import Trained, Wanted


def config(**changed: Any) -> EventsConfig:
    """A configuration of a model of waiting times; `changed` has sections by name."""
    table: dict[str, Any] = {
        "name": "waits",
        "task": "events",
        "data": {"kind": "log", "event": "event", "elapsed": "minutes", "unit": "minutes"},
        "model": {"embedding": 4, "units": 6, "dropout": 0.1},
        "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.01},
        "serving": {"buckets": [4, 32]},
    }
    read = read_config(
        {
            key: {**value, **changed.get(key, {})} if isinstance(value, dict) else value
            for key, value in table.items()
        },
        "tests",
    )
    assert isinstance(read, EventsConfig)
    return read


def test_a_configuration_without_the_new_fields_means_what_it_did() -> None:
    """An old card's configuration means a time gate, and time since the previous event."""
    assert (config().model.time, config().data.origin) == ("time_gate", "previous")


CASE = Case(("a", "b", "a", "c"), (0.0, 60.0, 300.0, 360.0))


def test_up_to_the_last_event_a_row_is_a_prefix() -> None:
    """Every prefix of every case is a row, with its own times, and is answered at its last step alone."""
    cases = [CASE, Case(("a", "b"), (0.0, 120.0))]
    settings = config(data={"origin": "last"})
    assert features_of(CASE, settings.data)["minutes"] == [6.0, 5.0, 1.0, 0.0]
    task = EventsRecipe(settings, cases, cases).task
    rows = task.draw(np.random.default_rng(0))
    assert sorted(rows.lengths) == [1, 1, 2, 2, 3, 4]
    (events, elapsed), targets, weights = rows.batch(np.array([2, 3]))
    assert (events > 0).sum(axis=1).tolist() == [3, 4]
    ratio = elapsed[1] / np.log1p([6.0, 5.0, 1.0, 1.0])  # 1.0: log1p(0) divides nothing
    np.testing.assert_allclose(ratio[:3], ratio[0], rtol=1e-6)
    np.testing.assert_allclose(elapsed[0] / ratio[0], np.log1p([5.0, 4.0, 0.0, 0.0]), rtol=1e-6)
    assert weights["next_event"].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert weights["to_end"].tolist() == weights["next_event"].tolist()
    assert weights["to_next"].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert targets["next_event"][[0, 1], [2, 3]].tolist() == [2, 3]  # c, and the end


@pytest.fixture(params=[("conv1x1", "last"), ("concat", "previous"), ("none", "previous")], ids="-".join)
def version(request: pytest.FixtureRequest, trained: Trained, log_data: Path) -> Path:
    """A model of each kind that the small `shop` is not, trained by the real command."""
    way, origin = request.param
    model = {"time": way, "unseen": 0.1 * (way == "concat"), "daily": way != "conv1x1"}
    settings = config(model=model, data={"origin": origin})
    return trained(Wanted(settings, log_data)) / "waits/1"


def test_each_way_is_trained_certified_and_measured(version: Path) -> None:
    """`check` passes, the manifest says what elapsed time is, and the card has the quality."""
    report = check_version(version)
    manifest = parse_manifest((version / "assets" / FILE_NAME).read_bytes())
    assert manifest.card is not None
    feature = manifest.features["minutes"]
    assert isinstance(feature, Elapsed)
    assert feature.origin == manifest.card["config"]["data"]["origin"]
    has_step = any("'step': event by event equals the whole" in line for line in report)
    assert has_step == ("step" in manifest.signatures) == (feature.origin == "previous")
    assert 0.2 < manifest.card["metrics"]["accuracy"] < 1
    stamps = {"timestamps": [f"2026-01-01T00:0{minute}:00Z" for minute in (0, 1, 5, 6)]}
    events = {"event": list(manifest.features["event"].labels[:4])}
    encoder = SequenceEncoder(manifest, "serving_default")
    if manifest.card["config"]["model"]["unseen"]:
        warnings = encoder.encode({"event": ["nonsense"], "minutes": [0.0]}).warnings
        assert warnings == (UNSEEN_EVENT_TYPE,)
    else:
        with pytest.raises(UnknownCategory):
            encoder.encode({"event": ["nonsense"], "minutes": [0.0]})
    by_stamps = encoder.encode({**events, "minutes": stamps}).row.inputs
    case = Case(tuple(events["event"]), CASE.seconds)
    data = read_config(manifest.card["config"], "card").data
    by_minutes = encoder.encode(features_of(case, data)).row.inputs
    np.testing.assert_allclose(by_stamps["minutes"], by_minutes["minutes"], rtol=1e-6)


Step = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda step: lambda **x: step(**{**x, "minutes": x["minutes"] * 0}), "output '.*' of 'step' is off"),
        (lambda step: lambda **x: {**step(**x), "memory": x["memory"]}, "of 'step' is off"),
        (lambda step: lambda **x: {**step(**x), "hidden": step(**x)["hidden"][::-1]}, "in a batch of [2-9]"),
    ],
    ids=["elapsed ignored", "memory kept as it was", "rows mixed up"],
)
@pytest.mark.slow
def test_a_step_that_differs_from_the_whole_is_refused(
    broken: Callable[[Step], Step], message: str, tmp_path: Path
) -> None:
    """Certification advances the goldens event by event, so such a version never ships."""
    random = np.random.default_rng(1)
    cases = [
        Case(tuple(random.choice(["a", "b", "c"], 9)), tuple(np.cumsum(random.uniform(0, 900, 9)).tolist()))
        for _ in range(12)
    ]
    recipe = EventsRecipe(config(), cases, cases)
    network = recipe.task.network
    network.set_weights([random.normal(size=weight.shape) for weight in network.get_weights()])
    draft = recipe.draft(1, {})
    spoiled = replace(draft, functions={**draft.functions, "step": broken(draft.functions["step"])})
    with pytest.raises(StepDiffers, match=message):
        export_version(spoiled, tmp_path)
    check_version(export_version(draft, tmp_path))


def test_a_feature_may_not_be_named_as_the_state_is() -> None:
    """The step's inputs would clash."""
    with pytest.raises(ConfigInvalid, match="named 'memory'"):
        config(data={"elapsed": "memory"})
