"""The journeys follow the law they state, and the law needs the history and the clock."""

from collections import defaultdict
from math import log, sqrt
from statistics import NormalDist, fmean, stdev

import pytest

from seqserve.models.data.cases import END, Case
from seqserve.models.data.journeys import (
    EVENTS,
    LAW,
    LONGEST,
    SPREAD,
    best_accuracy,
    journeys,
    next_probabilities,
)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return journeys(5_000, seed=3)


def _after(*events: str, pause: float) -> dict[str, float]:
    """Give the law after events a second apart, the last one `pause` minutes after the one before."""
    seconds = [float(step) for step in range(len(events) - 1)]
    return next_probabilities(Case(events, (*seconds, seconds[-1] + 60 * pause)), len(events) - 1)


def _likeliest(*events: str, pause: float) -> str:
    law = _after(*events, pause=pause)
    return max(law, key=law.__getitem__)


def test_journeys_are_well_formed(cases: list[Case]) -> None:
    lengths = [len(case.events) for case in cases]
    assert min(lengths) == 2
    assert max(lengths) == LONGEST
    assert 6 < fmean(lengths) < 8
    for case in cases:
        assert len(case.seconds) == len(case.events)
        assert case.seconds[0] == 0
        assert list(case.seconds) == sorted(case.seconds)
        assert set(case.events) <= set(EVENTS)


def test_the_law_is_as_documented() -> None:
    # Nothing in the basket, 5 minutes: leave 0.15 as it stands, and the shares of what is left.
    law = _after("visit", "search", "view", pause=5)
    assert law == pytest.approx(
        dict.fromkeys(EVENTS, 0) | {END: 0.15, "cart": 0.6375, "search": 0.1275, "view": 0.085}
    )
    # 17 minutes are (1 + 17) / (1 + 5) = 3 times as long: 9 times the odds.
    assert _after("visit", "search", "view", pause=17)[END] == pytest.approx(9 * 0.15 / (0.85 + 9 * 0.15))


def test_a_law_sums_to_one_and_a_journey_has_both_its_ends(cases: list[Case]) -> None:
    for case in cases[:500]:
        laws = [next_probabilities(case, step) for step in range(len(case.events))]
        assert [sum(law.values()) for law in laws] == pytest.approx([1.0] * len(laws))
        assert laws[0][END] == 0
    assert _after(*["visit"] * LONGEST, pause=1)[END] == 1


def test_the_law_sees_nothing_after_the_step(cases: list[Case]) -> None:
    case = max(cases, key=lambda case: len(case.events))
    for step in range(len(case.events)):
        known = Case(case.events[: step + 1], case.seconds[: step + 1])
        assert next_probabilities(known, step) == next_probabilities(case, step)


def test_the_best_prediction_depends_on_the_clock_and_on_the_history() -> None:
    assert _likeliest("visit", "search", "view", pause=2) == "cart"
    assert _likeliest("visit", "search", "view", pause=60) == END
    assert _likeliest("visit", "view", "cart", "view", "search", "search", "view", pause=2) == "checkout"
    assert _likeliest("visit", "view", "cart", "checkout", pause=2) == "pay"
    assert _likeliest("visit", "view", "cart", "checkout", "decline", "checkout", pause=2) == "decline"
    assert _likeliest("visit", "view", "cart", "checkout", "pay", "visit", pause=2) == "search"


def test_what_happens_is_as_likely_as_the_law_says(cases: list[Case]) -> None:
    """Per event, memory, long or short pause, and next event: the count is within chance of the sum of p."""
    seen: defaultdict[tuple[object, ...], list[float]] = defaultdict(lambda: [0, 0, 0])
    for case in cases:
        for step, event in enumerate(case.events):
            memory = "cart" in case.events[:step], "decline" in case.events[:step]
            late = step > 0 and case.seconds[step] - case.seconds[step - 1] > 600
            for label, p in next_probabilities(case, step).items():
                cell = seen[event, memory, late, label]
                cell[0] += label == (*case.events, END)[step + 1]
                cell[1] += p
                cell[2] += p * (1 - p)
    scores = [(count - mean) / sqrt(variance) for count, mean, variance in seen.values() if variance > 5]
    assert len(scores) > 50
    assert max(map(abs, scores)) < NormalDist().inv_cdf(1 - 0.001 / len(scores))
    assert all(count == 0 for count, mean, _ in seen.values() if mean == 0)


@pytest.mark.parametrize("event", EVENTS)
def test_the_time_to_the_next_event_is_the_events_own(cases: list[Case], event: str) -> None:
    gaps = [
        log(max(0.5, later - earlier) / 60)
        for case in cases
        for name, earlier, later in zip(case.events, case.seconds, case.seconds[1:], strict=False)
        if name == event
    ]
    assert fmean(gaps) == pytest.approx(log(LAW[event].minutes), abs=4 * SPREAD / sqrt(len(gaps)))
    assert stdev(gaps) == pytest.approx(SPREAD, abs=4 * SPREAD / sqrt(2 * len(gaps)))


def test_the_best_accuracy_is_met_and_beats_a_guess_by_the_last_event(cases: list[Case]) -> None:
    best = best_accuracy(cases)
    assert best.prefixes == sum(len(case.events) for case in cases)
    assert 0.6 < best.expected < 0.8
    assert best.observed == pytest.approx(best.expected, abs=4 * 0.5 / sqrt(best.prefixes))
    followers: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for case in cases:
        for event, following in zip(case.events, (*case.events[1:], END), strict=True):
            followers[event][following] += 1
    assert sum(max(counts.values()) for counts in followers.values()) / best.prefixes < best.observed - 0.05


def test_the_shortest_prefix_leaves_out_shorter_ones(cases: list[Case]) -> None:
    assert best_accuracy(cases, 3).prefixes == sum(len(case.events) - 2 for case in cases)
    with pytest.raises(ValueError, match="prefix of 25"):
        best_accuracy(cases, LONGEST + 1)


def test_the_seed_decides() -> None:
    assert journeys(20, seed=1) == journeys(20, seed=1)
    assert journeys(20, seed=1) != journeys(20, seed=2)
