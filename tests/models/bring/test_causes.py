"""A wrong contract is explained by the reading that makes all answers equal; the model here is a function."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from seqserve.models.bring.answers import mismatch, near, read_wanted
from seqserve.models.bring.causes import Alone, explanation, unusual_scales
from seqserve.models.bring.expected import Expected, check_origin
from seqserve.models.config import ConfigInvalid
from seqserve.models.manifest import Identity, build_manifest, predict_signatures
from seqserve.service.contract.manifest import (
    Categories,
    Elapsed,
    Feature,
    Head,
    Manifest,
    Numbers,
    Numeric,
    Sigmoid,
    Softmax,
)

LABELS = ("c", "a", "d", "b")
CLASSES = Softmax(labels=("x", "z", "y"), scores="logits")
IDS, NUMBERS = Categories(labels=LABELS, first_id=1), Numbers(mean=(2.0,), scale=(4.0,))
MINUTES = Elapsed(unit="minutes", origin="last")
STAMPS = [
    {"timestamps": [f"2026-05-01T09:{m:02}:00Z" for m in row]} for row in ([0, 2, 3], [1, 9], [4, 5, 8, 8])
]


def manifest_of(
    feature: Feature, head: Head = CLASSES, buckets: tuple[int, ...] = (8,), **more: Any
) -> Manifest:
    """A manifest of one feature, `f`, and one head, `h`."""
    return build_manifest(
        Identity("own", 1, buckets, {}),
        predict_signatures({"f": feature}, {"h": head}, {}),
        mask="none",
        features={"f": feature},
        heads={"h": head},
        **more,
    )


def model(**inputs: np.ndarray) -> Mapping[str, np.ndarray]:
    """Scores that depend on every value and on its place in the padded row."""
    values = inputs["f"].reshape(*inputs["f"].shape[:2]).astype(np.float64)
    total = (values / (1 + np.arange(values.shape[1]))).sum(axis=1) + values.shape[1] / 50
    return {"h": np.stack([np.sin(total), np.cos(2 * total), np.sin(3 * total + 1)], axis=1) * 2}


def value(**inputs: np.ndarray) -> Mapping[str, np.ndarray]:
    """One number."""
    return {"h": model(**inputs)["h"][:, :1]}


def rows(feature: Feature) -> list[Any]:
    """Values as callers send them."""
    random = np.random.default_rng(3)
    lengths = (3, 5, 2, 7, 4, 6)
    match feature:
        case Categories():
            return [[LABELS[n] for n in random.integers(0, 4, size)] for size in lengths]
        case Numbers():
            return [random.normal(2, 4, size).round(2).tolist() for size in lengths]
    return [[0.0, 2.0, 1.5], [0.0, 7.0, 1.0, 4.0], [0.0, 3.0]]


def told(
    right: Manifest, wrong: Manifest, sent: list[Any] | None = None, function: Any = model
) -> str | None:
    """Return what is said to explain that the wrong manifest does not answer as the right one does."""
    cases = []
    for place, row in enumerate(sent or rows(right.features["f"])):
        answer = Alone(right, function).answer({"f": row})["h"]
        tops = {entry["label"]: entry["probability"] for entry in answer.get("all", answer.get("top", ()))}
        cases.append(Expected(f"item {place}", {"f": row}, {"h": tops or np.array([answer["value"]])}))
    return explanation(Alone(wrong, function), cases, 1e-4)


def changed(manifest: Manifest, **feature: Any) -> Manifest:
    """A manifest whose feature is otherwise."""
    update = {"f": manifest.features["f"].model_copy(update=feature)}
    return manifest.model_copy(update={"features": update})


CONTRACTS: dict[str, tuple[Manifest, Manifest, list[Any] | None, str]] = {
    "padding": (manifest_of(IDS, padding="left"), manifest_of(IDS), None, 'padding = "left"'),
    "no length": (
        manifest_of(IDS, buckets=(30,), padding="left"),
        manifest_of(IDS, buckets=(8, 16)),
        None,
        'buckets = [30], padding = "left" (training\'s rows had one length)',
    ),
    "first_id": (manifest_of(IDS), changed(manifest_of(IDS), first_id=0), None, "features.f.first_id = 1"),
    "order": (
        changed(manifest_of(IDS), labels=tuple(sorted(LABELS))),
        manifest_of(IDS),
        None,
        "features.f.labels in alphabetical order",
    ),
    "another order": (
        changed(manifest_of(IDS), labels=("d", "c", "a", "b")),
        manifest_of(IDS),
        None,
        'features.f.labels = ["d", "c", "a", "b"]',
    ),
    "both": (
        manifest_of(IDS, padding="left"),
        changed(manifest_of(IDS), first_id=2),
        None,
        'padding = "left" and features.f.first_id = 1',
    ),
    "unscaled": (
        changed(manifest_of(NUMBERS), mean=(0.0,), scale=(1.0,)),
        manifest_of(NUMBERS),
        None,
        "features.f without mean and scale",
    ),
    "variance": (
        manifest_of(NUMBERS),
        changed(manifest_of(NUMBERS), scale=(16.0,)),
        None,
        "features.f.scale = [4]: a deviation, not a variance",
    ),
    "factor": (
        manifest_of(NUMBERS),
        changed(manifest_of(NUMBERS), scale=(0.25,)),
        None,
        "features.f.scale = [4]: numbers are divided by it",
    ),
    "origin": (
        manifest_of(MINUTES),
        changed(manifest_of(MINUTES), origin="previous"),
        STAMPS,
        'features.f.origin = "last"',
    ),
    "transform": (
        manifest_of(Elapsed(unit="minutes", transform="log1p")),
        manifest_of(Elapsed(unit="minutes")),
        None,
        'features.f.transform = "log1p"',
    ),
    "unit": (
        manifest_of(MINUTES),
        changed(manifest_of(MINUTES), unit="hours"),
        STAMPS,
        'features.f.unit = "minutes"',
    ),
    "classes": (
        manifest_of(IDS),
        manifest_of(IDS, CLASSES.model_copy(update={"labels": ("z", "y", "x")})),
        None,
        'heads.h.labels = ["x", "z", "y"]',
    ),
    "nothing": (
        manifest_of(NUMBERS),
        changed(manifest_of(NUMBERS), mean=(2.7,), scale=(3.1,)),
        None,
        "",
    ),
}


@pytest.mark.parametrize(("right", "wrong", "sent", "says"), CONTRACTS.values(), ids=CONTRACTS)
def test_the_right_reading_is_named(
    right: Manifest, wrong: Manifest, sent: list[Any] | None, says: str
) -> None:
    assert (told(right, wrong, sent) or "") == says


def test_a_value_in_another_unit_is_fitted() -> None:
    seconds = Numeric(mean=(10.0,), scale=(60.0,))
    right, wrong = manifest_of(NUMBERS, seconds), manifest_of(NUMBERS, Numeric())
    assert told(right, wrong, function=value) == "heads.h.mean = [10], scale = [60]"


def test_a_scale_that_was_forgotten_is_pointed_at() -> None:
    """No mean and scale can be found from a few sequences; that they are missing can be seen."""
    unscaled = changed(manifest_of(NUMBERS), mean=(0.0,), scale=(1.0,))
    cases = [Expected("item", {"f": [40.0, 60.0]}, {}), Expected("item", {"f": [50.0]}, {})]
    (hint,) = unusual_scales(unscaled, cases)
    assert "features.f: with this mean and scale the values lie around [50], deviation [8.16497]" in hint
    assert not list(unusual_scales(changed(unscaled, mean=(50.0,), scale=(8.0,)), cases))


def test_logits_that_are_expected_are_named() -> None:
    manifest = manifest_of(IDS)
    cases = [
        Expected("item", {"f": row}, {"h": dict(zip(CLASSES.labels, logits.tolist(), strict=True))})
        for row in rows(IDS)
        for logits in model(f=np.array([[1 + LABELS.index(label) for label in row] + [0] * (8 - len(row))]))[
            "h"
        ]
    ]
    assert "the model's own logits" in str(explanation(Alone(manifest, model), cases, 1e-4))


@pytest.mark.parametrize(("origin", "row"), [("previous", [5.0, 3.0, 0.0]), ("last", [0.0, 3.0, 2.0])])
def test_an_origin_that_the_items_contradict_is_refused(origin: Any, row: list[float]) -> None:
    manifest = changed(manifest_of(MINUTES), origin=origin)
    other = {"previous": "last", "last": "previous"}[origin]
    with pytest.raises(ConfigInvalid, match=f"features.f.origin: '{origin}', .* origin = \"{other}\""):
        check_origin([Expected("item", {"f": row}, {})], manifest)
    check_origin([Expected("item", {"f": row}, {})], changed(manifest, origin=other))


# --- answers as they are written ----------------------------------------------------------------------

TAGS = CLASSES.model_copy(update={"per": "step"})
SEVERAL = Sigmoid(labels=("x", "z"), scores="logits", thresholds=(0.5, 0.5))
TOP = {
    "label": "x",
    "probability": 0.7,
    "top": [{"label": n, "probability": p} for n, p in (("x", 0.7), ("z", 0.3))],
}
ALL = {"labels": TOP["top"][:1], "all": TOP["top"]}  # type: ignore[index]
AHEAD = Numeric(columns=("u", "v"), mean=(0.0, 0.0), scale=(1.0, 1.0), per="horizon")
ANSWERS: dict[str, tuple[Head, Any, dict[str, Any], str]] = {
    "label": (CLASSES, "x", TOP, ""),
    "another label": (CLASSES, "z", TOP, "'x' is served (0.7), 'z' expected (served with 0.3)"),
    "rounded": (CLASSES, {"x": 0.7, "z": 0.3}, TOP, ""),
    "probability": (CLASSES, {"x": 0.65}, TOP, "'x' is served with 0.7, 0.65 expected"),
    "numbers": (CLASSES, [0.7, 0.3, 0.0], TOP, ""),
    "several": (SEVERAL, ["x"], ALL, ""),
    "others": (SEVERAL, ["x", "z"], ALL, "'z' is served with 0.3, at least 0.5 is expected"),
    "steps": (TAGS, ["x", "z"], {"steps": [TOP, TOP]}, "step 1: 'x' is served (0.7), 'z' expected"),
    "fewer steps": (TAGS, ["x"], {"steps": [TOP, TOP]}, "2 steps are served, 1 expected"),
    "value": (Numeric(), 20, {"value": 20.001}, ""),
    "another value": (Numeric(), 20, {"value": 20.5}, "20.5 is served, 20 expected"),
    "ahead": (
        AHEAD,
        [[1, 2], [3, 4]],
        {"values": [[1, 2], [3, 5]]},
        "5 is served, 4 expected at row 1, column 1",
    ),
}


@pytest.mark.parametrize(("head", "given", "served", "says"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_compared_as_it_is_written(
    head: Head, given: Any, served: dict[str, Any], says: str
) -> None:
    assert (mismatch(head, read_wanted("h", head, given), served, 1e-4) or "").startswith(says)
    assert bool(mismatch(head, read_wanted("h", head, given), served, 1e-4)) == bool(says)


@pytest.mark.parametrize(
    ("head", "given", "says"),
    [
        (CLASSES, "w", "h: 'w' is none of the head's labels, 'x', 'z', 'y'"),
        (CLASSES, 2, "h: 2 is none of the head's labels"),
        (CLASSES, [0.1, 0.9], "h: .* is not what a softmax head answers: a label, a table"),
        (CLASSES, {"x": "high"}, "h: 'high' is not what a softmax head answers"),
        (TAGS, "x", "h: 'x' is not .*: a list with an entry a step, each a label"),
        (AHEAD, [1, 2, 3], "h: .* is not what a numeric head answers: a row a step, each"),
        (Numeric(), "much", "h: 'much' is not what a numeric head answers: a number"),
    ],
)
def test_what_no_head_answers_is_refused(head: Head, given: Any, says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says):
        read_wanted("h", head, given)


def test_digits_that_are_written_count() -> None:
    assert near(0.83, 0.8263, 1e-4)
    assert not near(0.83, 0.8363, 1e-4)
    assert not near(0.8312345, 0.8263, 1e-4)
