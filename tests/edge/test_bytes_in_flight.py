"""Bytes in flight: never more than the limit, and who sends most gives way."""

import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.edge.bytes_in_flight import BytesInFlight, Held

LIMIT = 100
STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["add", "arrived", "release"]), st.integers(1, 60))
)


@given(STEPS)
def test_the_limit_holds_and_the_largest_arriving_gives_way(steps: list[tuple[int, str, int]]) -> None:
    """Whatever comes: the sum is right and within the limit, and only who holds least room for more stays."""
    flight, gone = BytesInFlight(LIMIT), set[int]()
    held = {who: flight.hold(lambda error, who=who: gone.add(who)) for who in range(6)}  # type: ignore[misc]
    whole = set[int]()
    for who, what, count in steps:
        before = {other: held[other].count for other in held}
        if what == "add":
            fits = _added(held[who], count)
            evicted = {other for other in gone if before[other]}
            assert all(before[other] >= before[who] + count for other in evicted)
            assert not evicted & whole
            arriving = set(held) - whole - gone - {who}
            assert fits or all(held[other].count < before[who] + count for other in arriving)
        elif what == "arrived":
            held[who].arrived()
            whole.add(who)
        else:
            held[who].release()
            whole.add(who)
        assert flight.used == sum(one.count for one in held.values()) <= LIMIT
        whole |= gone
        gone.clear()


def test_a_request_that_came_whole_is_refused_with_the_limit_in_the_message() -> None:
    """What a door without parts does: hold, add at once, release."""
    flight = BytesInFlight(LIMIT)
    flight.hold().add(90)
    with pytest.raises(errors.QueueFull, match="90 of the 100 bytes that body_bytes_in_flight") as raised:
        flight.hold().add(11)
    assert raised.value.retry_after
    flight.hold().add(10)


def _added(held: Held, count: int) -> bool:
    try:
        held.add(count)
    except errors.QueueFull:
        return False
    return True
