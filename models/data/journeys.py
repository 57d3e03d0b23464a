"""Journeys: generated visits to a shop. Their law is known, and so is the best possible prediction.

No model can be more accurate than `best_accuracy`, except by luck.

The law: a journey starts with `visit` at second 0. At each event, let

- `basket` be the number of `cart` events since the last `pay`, and `declines` likewise;
- `pause` be the minutes between the previous event and this one.

1. The journey ends here with a probability that is 0 at the first event, 1 at event `LONGEST`, and otherwise

       odds of leaving = odds of `leave` * ((1 + pause) / (1 + PAUSE)) ** PATIENCE

   where `leave` is the event's own probability of leaving after a pause of `PAUSE` minutes.
2. Otherwise the next event is drawn from the event's shares.
3. It comes after a log-normal time, rounded to seconds: this event's median, log-deviation `SPREAD`.

`leave` and the shares depend on the event and on what is remembered: they are those of `LAW[event].below`
while the event's `memory` (`basket` or `declines`) is below `threshold`, and of `.reached` from there on.
So the best prediction needs the last event, the history and the clock.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

from seqserve.models.data.cases import END, Case

Memory = Literal["basket", "declines"]
COUNTED: Mapping[Memory, str] = {"basket": "cart", "declines": "decline"}

LONGEST = 24
PAUSE = 5.0
PATIENCE = 2.0
SPREAD = 1.4


@dataclass(frozen=True, slots=True)
class Outlook:
    """What may follow: the probability of leaving after `PAUSE` minutes, and else the next event's shares."""

    leave: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EventLaw:
    """What follows an event, by what is remembered, and after how long (the median, in minutes)."""

    minutes: float
    memory: Memory
    threshold: int
    below: Outlook
    reached: Outlook


LAW: Mapping[str, EventLaw] = {
    "visit": EventLaw(
        0.5,
        "basket",
        1,
        Outlook(0.10, {"search": 0.85, "view": 0.10, "support": 0.05}),
        Outlook(0.10, {"checkout": 0.80, "search": 0.20}),
    ),
    "search": EventLaw(
        1.0,
        "basket",
        1,
        Outlook(0.10, {"view": 0.90, "search": 0.10}),
        Outlook(0.10, {"view": 0.80, "search": 0.10, "checkout": 0.10}),
    ),
    "view": EventLaw(
        3.0,
        "basket",
        1,
        Outlook(0.15, {"cart": 0.75, "search": 0.15, "view": 0.10}),
        Outlook(0.10, {"checkout": 0.75, "cart": 0.20, "view": 0.05}),
    ),
    "cart": EventLaw(
        2.0,
        "basket",
        2,
        Outlook(0.10, {"view": 0.80, "checkout": 0.20}),
        Outlook(0.10, {"checkout": 0.90, "search": 0.10}),
    ),
    "checkout": EventLaw(
        2.0,
        "declines",
        1,
        Outlook(0.10, {"pay": 0.75, "decline": 0.25}),
        Outlook(0.10, {"decline": 0.70, "pay": 0.30}),
    ),
    "decline": EventLaw(
        4.0,
        "declines",
        2,
        Outlook(0.10, {"checkout": 0.90, "support": 0.10}),
        Outlook(0.30, {"support": 0.85, "checkout": 0.15}),
    ),
    "pay": EventLaw(
        8.0,
        "basket",
        1,
        Outlook(0.90, {"visit": 0.60, "support": 0.40}),
        Outlook(0.90, {"visit": 0.60, "support": 0.40}),
    ),
    "support": EventLaw(
        6.0,
        "basket",
        1,
        Outlook(0.60, {"visit": 0.70, "search": 0.30}),
        Outlook(0.15, {"pay": 0.75, "checkout": 0.25}),
    ),
}
EVENTS: tuple[str, ...] = tuple(LAW)


@dataclass(frozen=True, slots=True)
class BestAccuracy:
    """How often the best predictor is right: in expectation, and on the prefixes of the given journeys."""

    expected: float
    observed: float
    prefixes: int


def journeys(count: int, seed: int) -> list[Case]:
    """Draw `count` journeys of 2 to `LONGEST` events, the same for the same seed."""
    draw = random.Random(seed)
    return [_journey(draw) for _ in range(count)]


def next_probabilities(case: Case, step: int) -> dict[str, float]:
    """Return the exact probabilities that each of `EVENTS`, or `END`, follows event `step`."""
    events, seconds = case.events[: step + 1], case.seconds
    law = LAW[events[step]]
    outlook = law.reached if _remembered(events, law.memory) >= law.threshold else law.below
    pause = (seconds[step] - seconds[step - 1]) / 60 if step else 0.0
    leave = _leave(outlook.leave, pause, step)
    return {event: (1 - leave) * outlook.shares.get(event, 0.0) for event in EVENTS} | {END: leave}


def best_accuracy(cases: Iterable[Case], shortest_prefix: int = 1) -> BestAccuracy:
    """Measure the best predictor on every prefix of at least `shortest_prefix` events; `END` may follow it.

    Raises:
        ValueError: no journey has such a prefix.
    """
    highest, right = [], 0
    for case in cases:
        for step in range(shortest_prefix - 1, len(case.events)):
            law = next_probabilities(case, step)
            best = max(law, key=law.__getitem__)
            highest.append(law[best])
            right += best == (*case.events, END)[step + 1]
    if not highest:
        raise ValueError(f"no journey has a prefix of {shortest_prefix} events")
    return BestAccuracy(sum(highest) / len(highest), right / len(highest), len(highest))


def _journey(draw: random.Random) -> Case:
    case = Case(("visit",), (0.0,))
    while (event := _next(draw, case)) != END:
        minutes = draw.lognormvariate(log(LAW[case.events[-1]].minutes), SPREAD)
        case = Case((*case.events, event), (*case.seconds, case.seconds[-1] + round(60 * minutes)))
    return case


def _next(draw: random.Random, case: Case) -> str:
    law = next_probabilities(case, len(case.events) - 1)
    (event,) = draw.choices(tuple(law), tuple(law.values()))
    return event


def _remembered(events: Sequence[str], memory: Memory) -> int:
    """Count what the memory counts, since the last `pay`."""
    count = 0
    for event in events:
        count = 0 if event == "pay" else count + (event == COUNTED[memory])
    return count


def _leave(leave: float, pause: float, step: int) -> float:
    """Return the probability of leaving after a pause, in minutes."""
    if step == 0 or step == LONGEST - 1:
        return float(step > 0)
    odds = leave / (1 - leave) * ((1 + pause) / (1 + PAUSE)) ** PATIENCE
    return odds / (1 + odds)
