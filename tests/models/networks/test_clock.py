"""Channels of elapsed time: its size, and its phase within a day."""

import numpy as np
from hypothesis import given, settings, strategies as st

from seqserve.models.networks.clock import Clock


def test_the_phase_of_the_day_is_a_channel_if_wanted() -> None:
    """Only with it do 23.5 and 24.5 hours, which are of nearly the same size, differ."""
    hours = np.array([[23.5, 24.5]])

    def apart(daily: bool) -> float:
        clock = Clock(1.0, 3600.0, daily)
        early, late = np.asarray(clock(np.log1p(hours).astype("float32")))[0, :, : clock.fixed]
        return float(np.abs(early - late).max())

    assert apart(daily=False) < 0.1 < 0.4 < apart(daily=True)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=6))
@settings(max_examples=25)
def test_a_time_is_read_the_same_at_any_place(days: list[float]) -> None:
    """Bit for bit: a phase magnifies what single precision rounds differently at another place in a batch."""
    clock = Clock(1.5, 86400.0)
    elapsed = np.log1p(np.array(days)).astype(np.float32) / 1.5
    alone = np.concatenate([np.asarray(clock(np.full((1, 1), x)))[0] for x in elapsed])  # (times, channels)
    among = np.asarray(clock(np.resize(elapsed, (7, 33)))).reshape(7 * 33, -1)[: len(days)]
    np.testing.assert_array_equal(among[:, :4], alone[:, :4])
    assert np.isfinite(among).all()
