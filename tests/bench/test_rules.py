"""The scheduler's promises under load, on the real queue in virtual time."""

import pytest

from tests.bench.rules import TABLES, Stream, pace, single, without


@pytest.mark.parametrize("table", TABLES)
def test_one_text_is_not_held_up_by_a_neighbours_thousand(table: str) -> None:
    """Nor by as many small requests of another principal: within three times of what it takes alone."""
    alone = single(table=table, seconds=12)
    for beside in (Stream("thousand", 1, 1000), Stream("flood", 2000, principal="another")):
        assert single(beside, table, seconds=12) < 3 * alone


def test_it_is_where_length_alone_says_who_leaves() -> None:
    with without("turns, for the rest: by length alone"):
        assert single(Stream("thousand", 1, 1000), seconds=12) > 3 * single(seconds=12)


def test_overload_costs_no_more_than_an_eighth_of_the_pace() -> None:
    """Ten times as many callers as keep it busy, with a second each."""
    assert pace(2560, timeout=1.0, seconds=12) > 0.875 * pace(256, seconds=12)


def test_a_crowd_of_many_principals_costs_little_though_each_refusal_takes_time() -> None:
    """Of 8,000 callers; they come back as fast as others are answered, not all the time."""
    crowd = pace(8000, timeout=1.0, seconds=20, principals=64, refusal=1e-4)
    assert crowd > 0.85 * pace(256, seconds=12)
