"""The comparison of a recorded answer with a new one."""

import copy
from typing import Any

from hypothesis import given, strategies as st

from seqserve.service.core.golden import as_recorded, first_difference

TOLERANCE = 1e-3
numbers = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)
leaves = numbers | st.text(max_size=3) | st.booleans() | st.none()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


def places(value: Any) -> list[tuple[Any, ...]]:
    """Return the path of every leaf."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [(key, *path) for key, inner in pairs for path in places(inner)]
    return [()]


def changed(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    """Return the value with another leaf at the path."""
    if not path:
        return leaf
    other = copy.copy(value)
    other[path[0]] = changed(value[path[0]], path[1:], leaf)
    return other


def leaf_at(value: Any, path: tuple[Any, ...]) -> Any:
    return leaf_at(value[path[0]], path[1:]) if path else value


def strict(value: Any) -> Any:
    """Return what is equal where JSON is: True is not 1, while 1 is 1.0."""
    if isinstance(value, dict):
        return {key: strict(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [strict(inner) for inner in value]
    return (isinstance(value, bool), value)


@given(values)
def test_equal_is_no_difference(value: Any) -> None:
    assert first_difference(value, copy.deepcopy(value), 0.0) is None


@given(values, values)
def test_with_no_tolerance_a_difference_is_what_json_says_and_has_no_side(one: Any, other: Any) -> None:
    differs = strict(one) != strict(other)
    assert bool(first_difference(one, other, 0.0)) is differs
    assert bool(first_difference(other, one, 0.0)) is differs


@given(values, leaves, st.data())
def test_one_other_leaf_is_found_and_its_path_named(value: Any, leaf: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(value)))
    if strict(leaf_at(value, path)) == strict(leaf):
        return
    difference = first_difference(value, changed(value, path, leaf), 0.0)
    assert difference is not None
    assert difference.startswith(".".join(["items", *map(str, path)]) + " ")


@given(st.floats(-1e6, 1e6), st.sampled_from([-1, 1]))
def test_a_number_may_be_off_by_the_tolerance_and_no_more(wanted: float, side: int) -> None:
    allowed = TOLERANCE * (1 + abs(wanted))
    assert first_difference([wanted], [wanted + side * allowed * 0.999], TOLERANCE) is None
    assert first_difference([wanted], [wanted + side * allowed * 1.001], TOLERANCE) is not None


def test_members_and_lengths_are_compared() -> None:
    assert first_difference({"a": 1}, {"b": 1}, 1.0) == "items has members ['b'], recorded ['a']"
    assert first_difference([{"a": [1]}], [{"a": [1, 2]}], 1.0) == "items.0.a has 2 entries, recorded 1"
    assert first_difference(["1"], [1], 1.0) == "items.0 is 1, recorded '1'"
    assert first_difference([True], [1], 1.0) == "items.0 is 1, recorded True"
    assert first_difference([1], [True], 1.0) == "items.0 is True, recorded 1"
    assert first_difference([1.0], [float("nan")], 1.0) is not None


def test_an_example_recorded_before_a_member_was_added_holds() -> None:
    """Only what answers have gained since may be more; recorded, it is compared like anything else."""
    old = [{"heads": {"alarm": {"labels": []}}, "warnings": []}]
    new = [{"heads": {"alarm": {"labels": [], "all": [1, 2]}}, "warnings": [], "warning_details": [{}]}]
    assert as_recorded(old, new) == old
    assert as_recorded(new, new) == new
    assert as_recorded(new, old) == old
    assert as_recorded([{"a": 1}], [{"a": 1, "b": 2}]) == [{"a": 1, "b": 2}]
    assert as_recorded([1], [{"all": 1}]) == [{"all": 1}]
