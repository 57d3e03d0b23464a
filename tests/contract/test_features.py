"""Sequences to rows: what is refused and where, and that what is accepted means what it should."""

import datetime
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from seqserve.service import errors
from seqserve.service.contract.features import UNSEEN_EVENT_TYPE, SequenceEncoder
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.values import UNIT_SECONDS

NAN, INF, HUGE = math.nan, math.inf, 10**400
GOOD = {"activity": ["Assign", "Wait", 7], "amount": [[1, 2.5], [3, 4], [5, 6]], "minutes": [0, 4, 2.5]}
STAMPS = ["2026-05-01T09:30:00+02:00", "2026-05-01t07:30:00.25z", "2026-05-01 03:31:00-04:00"]
SECONDS = [1777620600.0, 1777620600.25, 1777620660.0]  # the same three


def manifest(
    features: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None, **fields: Any
) -> Manifest:
    """Make a manifest of three features: labels (the graph masks by 0), two columns, elapsed minutes."""
    activity = {"kind": "categories", "labels": ["Assign", "Wait", "7"], "first_id": 1}
    amount = {"kind": "numbers", "width": 2, "mean": [10, 0], "scale": [2, 0.5]}
    steps = ["batch", "time"]
    plain: dict[str, Any] = {
        "task": "sequence",
        "name": "m",
        "version": 1,
        "features": {
            "activity": activity,
            "amount": amount,
            "minutes": {"kind": "elapsed", "unit": "minutes"},
            **(features or {}),
        },
        "signatures": {
            "serving_default": {
                "inputs": {
                    "activity": {"dtype": "int32", "axes": steps, "pad_value": 0},
                    "amount": {"dtype": "float32", "axes": [*steps, "unit"], "pad_value": 0.0},
                    "minutes": {"dtype": "float32", "axes": steps, "pad_value": 0.0},
                    **(inputs or {}),
                },
                "outputs": {"y": {"dtype": "float32", "axes": ["batch", "unit"]}},
            }
        },
        "heads": {"y": {"kind": "numeric"}},
        "limits": {"sequence_steps": 4},
        "buckets": [4],
        **fields,
    }
    return Manifest.model_validate(plain, strict=False)


def encode(given_manifest: Manifest, **features: Any) -> Any:
    """Encode the good sequence with some features replaced."""
    return SequenceEncoder(given_manifest, "serving_default").encode({**GOOD, **features})


def test_good_sequence() -> None:
    """Labels become ids, numbers standardized columns, minutes stay; dtypes and axes are the inputs'."""
    encoded = encode(manifest())
    assert encoded.warnings == ()
    assert encoded.row.length == 3
    row = encoded.row.inputs
    assert {name: (v.dtype.name, v.tolist()) for name, v in row.items()} == {
        "activity": ("int32", [1, 2, 3]),
        "amount": ("float32", [[-4.5, 5.0], [-3.5, 8.0], [-2.5, 12.0]]),
        "minutes": ("float32", [0.0, 4.0, 2.5]),
    }


LONG = "x" * 10_000
REFUSED: list[tuple[dict[str, Any], type[errors.SeqserveError], errors.Path]] = [
    ({"colour": ["red"] * 3}, errors.UnknownFeature, ("colour",)),
    ({"\x00\u202e": []}, errors.UnknownFeature, ("\x00\u202e",)),
    ({LONG: []}, errors.UnknownFeature, ()),
    ({"minutes": None}, errors.MissingFeature, ("minutes",)),
    ({"minutes": "0, 4"}, errors.WrongType, ("minutes",)),
    ({"minutes": 4}, errors.WrongType, ("minutes",)),
    ({"minutes": np.float64(4)}, errors.WrongType, ("minutes",)),
    ({"minutes": np.zeros((3, 1, 1))}, errors.WrongType, ("minutes",)),
    ({"minutes": np.array(["a", "b", "c"])}, errors.WrongType, ("minutes",)),
    ({"minutes": [0, True, 1]}, errors.WrongType, ("minutes", 1)),
    ({"minutes": [0, 10**400, 1]}, errors.NotFinite, ("minutes", 1)),
    ({"minutes": np.array([True, False, True])}, errors.WrongType, ("minutes",)),
    ({"minutes": [0, 4]}, errors.UnequalLengths, ("activity",)),
    ({"activity": [HUGE] * 5}, errors.SequenceTooLong, ("activity",)),
    ({"minutes": {"timestamps": [object()] * 5}}, errors.SequenceTooLong, ("minutes",)),
    ({"activity": [], "amount": [], "minutes": []}, errors.EmptySequence, ("activity",)),
    ({"activity": ["Assign", "Wait", "Sleep"]}, errors.UnknownCategory, ("activity", 2)),
    ({"activity": ["Assign", LONG, "Wait"]}, errors.UnknownCategory, ("activity", 1)),
    ({"activity": ["Assign", 10**300, "Wait"]}, errors.UnknownCategory, ("activity", 1)),
    ({"activity": ["Assign", True, "Wait"]}, errors.WrongType, ("activity", 1)),
    ({"activity": ["Assign", None, "Wait"]}, errors.WrongType, ("activity", 1)),
    ({"activity": ["Assign", 7.5, "Wait"]}, errors.WrongType, ("activity", 1)),
    ({"activity": [["Assign"], "Wait", "Wait"]}, errors.WrongType, ("activity", 0)),
    ({"activity": np.ones((3, 2))}, errors.WrongType, ("activity", 0)),
    ({"activity": np.array([True] * 3)}, errors.WrongType, ("activity", 0)),
    ({"activity": {"timestamps": STAMPS}}, errors.WrongType, ("activity",)),
    ({"activity": ["Assign", HUGE, "Wait"]}, errors.NotFinite, ("activity", 1)),
    ({"activity": ["Assign", 10**5000, "Wait"]}, errors.NotFinite, ("activity", 1)),
    ({"activity": np.array([7, NAN, 7])}, errors.NotFinite, ("activity", 1)),
    ({"activity": [7.0, 7.0, -INF]}, errors.NotFinite, ("activity", 2)),
    ({"amount": {"timestamps": STAMPS}}, errors.WrongType, ("amount",)),
    ({"amount": [[1, 2], [3, "4"], [5, 6]]}, errors.WrongType, ("amount", 1)),
    ({"amount": [[1, 2], [3, True], [5, 6]]}, errors.WrongType, ("amount", 1)),
    ({"amount": [[1, 2], [3, [4]], [5, 6]]}, errors.WrongType, ("amount", 1)),
    ({"amount": [[1, 2], [3], [5, 6]]}, errors.WrongWidth, ("amount", 1)),
    ({"amount": [[1, 2], 3, [5, 6]]}, errors.WrongWidth, ("amount", 1)),
    ({"amount": [[1, 2], [3, 4], ["a"] * 3]}, errors.WrongWidth, ("amount", 2)),
    ({"amount": np.ones(3)}, errors.WrongWidth, ("amount", 0)),
    ({"amount": np.ones((3, 0))}, errors.WrongWidth, ("amount", 0)),
    ({"amount": [[1, 2], [3, 4], [5, HUGE]]}, errors.NotFinite, ("amount", 2)),
    ({"amount": [[1, 2], [3, NAN], [5, 6]]}, errors.NotFinite, ("amount", 1)),
    ({"amount": np.array([[1, 2], [3, 4], [INF, 6]])}, errors.NotFinite, ("amount", 2)),
    ({"amount": [[1, 2], [1e39, 4], [5, 6]]}, errors.NotFinite, ("amount", 1)),
    ({"amount": [[1, 1.7e308], [3, 4], [5, 6]]}, errors.NotFinite, ("amount", 0)),
    ({"minutes": [0, -INF, 2]}, errors.NotFinite, ("minutes", 1)),
    ({"minutes": [[0], [1, 2], [2]]}, errors.WrongWidth, ("minutes", 1)),
    ({"minutes": [0, 4, -0.5]}, errors.NegativeElapsed, ("minutes", 2)),
    ({"minutes": np.array([0, -1, 2])}, errors.NegativeElapsed, ("minutes", 1)),
    ({"minutes": {"stamps": STAMPS}}, errors.WrongType, ("minutes",)),
    ({"minutes": {"timestamps": STAMPS, "unit": "s"}}, errors.WrongType, ("minutes",)),
    ({"minutes": {"timestamps": "2026"}}, errors.WrongType, ("minutes",)),
    ({"minutes": {"timestamps": None}}, errors.WrongType, ("minutes",)),
    ({"minutes": {"timestamps": SECONDS}}, errors.WrongType, ("minutes", "timestamps", 0)),
    ({"minutes": {"timestamps": STAMPS[::-1]}}, errors.NegativeElapsed, ("minutes", "timestamps", 1)),
    (
        {"minutes": {"timestamps": np.array(SECONDS[::-1])}},
        errors.NegativeElapsed,
        ("minutes", "timestamps", 1),
    ),
    ({"minutes": {"timestamps": np.array([0, NAN, 1])}}, errors.NotFinite, ("minutes", "timestamps", 1)),
    ({"minutes": {"timestamps": np.array([0, 1, 1e19])}}, errors.WrongType, ("minutes", "timestamps", 2)),
]


@pytest.mark.parametrize(("features", "kind", "path"), REFUSED)
def test_refused(features: dict[str, Any], kind: type[errors.SeqserveError], path: errors.Path) -> None:
    """Each fault has its reason, points at its place, and never answers with the caller's own bulk."""
    with pytest.raises(kind) as caught:
        encode(manifest(), **features)
    assert (caught.value.reason, caught.value.path) == (kind.reason, path)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-05-01",
        "2026-W18-5T09:30:00Z",
        "2026-05-01T09:30:00",
        "2026-05-01T09:30Z",
        "20260501T093000Z",
        "2026-05-01T09:30:00,5Z",
        "2026-05-01T09:30:00+0200",
        "2026-05-01T09:30:00+02:99",
        "2026-05-01T09:30:00+24:00",
        "2026-05-01T09:30:00+02:00:30",
        "2026-02-30T09:30:00Z",
        "2026-05-01T09:30:00Z\n",
        "２026-05-01T09:30:00Z",
        "",
        None,
        0,
        True,
    ],
)
def test_not_rfc_3339(stamp: Any) -> None:
    """Only RFC 3339 with an offset is a timestamp; other ISO 8601 and bare numbers are not."""
    with pytest.raises(errors.WrongType) as caught:
        encode(manifest(), minutes={"timestamps": [STAMPS[0], stamp, STAMPS[2]]})
    assert caught.value.path == ("minutes", "timestamps", 1)


@pytest.mark.parametrize(
    ("origin", "expected"), [("previous", [0, 0.25, 59.75]), ("last", [60.0, 59.75, 0.0])]
)
@pytest.mark.parametrize("unit", list(UNIT_SECONDS))
def test_timestamps(origin: str, expected: list[float], unit: str) -> None:
    """RFC 3339 and seconds since 1970 give the durations themselves, in the unit, for both origins."""
    feature = {"kind": "elapsed", "unit": unit, "origin": origin}
    there = manifest({"minutes": feature})
    durations = [seconds / UNIT_SECONDS[unit] for seconds in expected]
    wanted = encode(there, minutes=durations).row.inputs["minutes"].tolist()
    assert encode(there, minutes={"timestamps": STAMPS}).row.inputs["minutes"].tolist() == wanted
    assert encode(there, minutes={"timestamps": np.array(SECONDS)}).row.inputs["minutes"].tolist() == wanted


ZONES = st.integers(-1439, 1439).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m)))
MOMENTS = st.datetimes(
    datetime.datetime(1900, 1, 1),  # noqa: DTZ001 - the strategy wants it without a zone
    datetime.datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=ZONES,
)


@given(moments=st.lists(MOMENTS, min_size=3, max_size=3).map(sorted))
@settings(deadline=None)
def test_any_timestamps(moments: list[datetime.datetime]) -> None:
    """Moments in any zones are read alike from text and from seconds, to the microsecond."""
    there = manifest({"minutes": {"kind": "elapsed", "unit": "seconds"}})
    steps = [0.0, *((b - a).total_seconds() for a, b in itertools.pairwise(moments))]
    texts = [moment.isoformat() for moment in moments]
    seconds = np.array([moment.timestamp() for moment in moments])
    for stamps in (texts, seconds):
        got = encode(there, minutes={"timestamps": stamps}).row.inputs["minutes"]
        assert got.tolist() == np.array(steps, np.float32).tolist()


def test_first_and_last_moment() -> None:
    """The ends of RFC 3339's years are read, in zones that put them outside the calendar in UTC."""
    stamps = [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.9999999-23:59",
        "9999-12-31T23:59:59.9999999-23:59",
    ]
    got = encode(manifest(), minutes={"timestamps": stamps}).row.inputs["minutes"]
    assert got.tolist() == [0, pytest.approx(9999 * 365.2425 * 1440, rel=1e-5), 0]


def test_log1p_and_scale() -> None:
    """An elapsed time is transformed, then scaled."""
    there = manifest({"minutes": {"kind": "elapsed", "unit": "minutes", "transform": "log1p", "scale": 2}})
    got = encode(there, minutes=[0, math.expm1(1), math.expm1(3)]).row.inputs["minutes"]
    assert got == pytest.approx([0, 0.5, 1.5])


NUMBER = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)
SCALE = st.floats(1e-3, 1e3)


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=4), st.tuples(NUMBER, NUMBER, SCALE, SCALE))
@settings(deadline=None)
def test_standardization_inverse(table: list[tuple[float, float]], spec: tuple[float, ...]) -> None:
    """Standardized numbers times scale plus mean are the numbers; a list and an array encode alike."""
    mean, scale = np.array(spec[:2], float), np.array(spec[2:], float)
    feature = {"kind": "numbers", "width": 2, "mean": list(mean), "scale": list(scale)}
    there = manifest({"amount": feature})
    rest = {"activity": ["7"] * len(table), "minutes": [0] * len(table)}
    got = encode(there, amount=[list(row) for row in table], **rest).row.inputs["amount"]
    again = encode(there, amount=np.array(table, float), **rest).row.inputs["amount"]
    assert (got == again).all()
    close = 1e-6 * (np.abs(np.array(table, float)) + np.abs(mean)) + 1e-9
    assert (np.abs(got * scale + mean - np.array(table, float)) <= close).all()


@pytest.mark.parametrize(
    "labels",
    [["7", "7", "7"], [7, 7.0, "7"], np.full(3, 7.0), np.full((3, 1), 7.0), np.full(3, 7), np.full(3, "7")],
)
def test_integers_are_labels(labels: Any) -> None:
    """An integer, or a whole number as gRPC carries it, is read as its decimal string."""
    assert encode(manifest(), activity=labels).row.inputs["activity"].tolist() == [3, 3, 3]


def test_unknown_is_mapped() -> None:
    """Where the manifest maps unknown labels, they get its id, and the caller one warning."""
    names = ("activity", "other")
    feature = {"kind": "categories", "labels": ["Wait"], "first_id": 2, "unknown": "map", "unknown_id": 1}
    tensor = {"dtype": "int64", "axes": ["batch", "time", "unit"], "pad_value": 0}
    there = manifest(dict.fromkeys(names, feature), dict.fromkeys(names, tensor))
    encoded = encode(there, activity=["Wait", LONG, 7], other=["Wait", "Wait", "?"])
    assert encoded.warnings == (UNSEEN_EVENT_TYPE,)
    assert [(detail.feature, detail.step, detail.value) for detail in encoded.details] == [
        ("activity", 1, LONG[:57] + "..."),
        ("activity", 2, "7"),
        ("other", 2, "?"),
    ]
    assert encoded.row.inputs["activity"].tolist() == [[2], [1], [1]]
    assert encode(there, activity=["Wait"] * 3, other=["Wait"] * 3).warnings == ()


def test_few_of_many_unknown_labels_are_named() -> None:
    """The answer does not grow with the caller's own bulk."""
    feature = {"kind": "categories", "labels": ["Wait"], "first_id": 2, "unknown": "map", "unknown_id": 1}
    there = manifest({"activity": feature}, limits={"sequence_steps": 1000}, buckets=[1000])
    steps = 1000
    given = {"activity": [str(n) for n in range(steps)], "amount": [[1, 2]] * steps, "minutes": [0] * steps}
    encoded = encode(there, **given)
    assert [(detail.step, detail.value) for detail in encoded.details] == [(n, str(n)) for n in range(10)]


NAMED = [
    ({"activity": ["Assign", "Wait", "Sleep"]}, ["step 2", "'Sleep'"]),
    ({"activity": ["Assign", 7.5, "Wait"]}, ["step 1", "7.5"]),
    ({"activity": ["Assign", None, "Wait"]}, ["step 1", "None"]),
    ({"activity": [["Assign"], "Wait", "Wait"]}, ["step 0", "list"]),
    ({"amount": [[1, 2], [3, "4"], [5, 6]]}, ["step 1", "'4'"]),
    ({"amount": [[1, 2], [3, NAN], [5, 6]]}, ["step 1", "nan"]),
    ({"amount": np.array([[1, 2], [3, 4], [INF, 6]])}, ["step 2", "inf"]),
    ({"amount": [[1, 2], [3, 4], [5, HUGE]]}, ["step 2", "many digits"]),
    ({"amount": [[1, 2], [1e39, 4], [5, 6]]}, ["step 1", "5e+38", "float32"]),
    ({"amount": [[1, 2], [3], [5, 6]]}, ["step 1", "1 columns", "2"]),
    ({"minutes": [0, 4, -0.5]}, ["step 2", "-0.5"]),
    ({"minutes": {"timestamps": ["soon", *STAMPS[1:]]}}, ["timestamp 0", "'soon'"]),
    ({"minutes": {"timestamps": STAMPS[::-1]}}, ["timestamp 1", "07:30:00.25", "07:31:00"]),
    ({"minutes": {"timestamps": np.array([0, 1, 1e19])}}, ["timestamp 2", "1e+19"]),
]


@pytest.mark.parametrize(("features", "named"), NAMED)
def test_a_fault_names_the_step_and_the_value(features: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        encode(manifest(), **features)
    assert [part for part in named if part not in str(caught.value)] == []


@pytest.mark.parametrize(("axes", "shape"), [(["batch", "time"], (3,)), (["batch", "time", "unit"], (3, 1))])
def test_unit_axis(axes: list[str], shape: tuple[int, ...]) -> None:
    """One column has an axis of its own exactly where the input's tensor has one."""
    tensor = {"dtype": "float32", "axes": axes, "pad_value": 0.0}
    amount = {"kind": "numbers", "mean": [1], "scale": [1]}
    there = manifest({"amount": amount}, {"amount": tensor, "minutes": tensor})
    row = encode(there, amount=[[2], 3, [4]]).row.inputs
    assert {name: row[name].shape for name in ("amount", "minutes")} == {"amount": shape, "minutes": shape}
    assert row["amount"].ravel().tolist() == [1, 2, 3]


def test_pad_collision() -> None:
    """A real step that the graph would take for padding is refused, and only in the input it masks by."""
    there = manifest({"minutes": {"kind": "elapsed", "unit": "minutes"}}, mask_from="amount")
    with pytest.raises(errors.PadCollision) as caught:
        encode(there, amount=[[10, 1], [10, 0], [10, 0]])
    assert caught.value.path == ("amount", 1)
    mask = {"dtype": "bool", "axes": ["batch", "time"]}
    encode(manifest(inputs={"mask": mask}, mask={"input": "mask"}), amount=[[10, 0]] * 3)


def test_integer_inputs_have_a_range() -> None:
    """A number that an integer input cannot hold is refused, not wrapped around."""
    tensor = {"dtype": "int32", "axes": ["batch", "time"], "pad_value": 0}
    there = manifest(inputs={"minutes": tensor})
    assert encode(there, minutes=[0, 2**31 - 1, 1]).row.inputs["minutes"].tolist() == [0, 2**31 - 1, 1]
    with pytest.raises(errors.NotFinite) as caught:
        encode(there, minutes=[0, 2**31, 1])
    assert caught.value.path == ("minutes", 1)
