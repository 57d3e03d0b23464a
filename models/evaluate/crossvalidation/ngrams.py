"""N-grams of activities: what an event model must beat, trained and scored on the same cases.

Interpolated Witten-Bell smoothing: Witten and Bell, 1991,
https://doi.org/10.1109/18.87000, in the form of Chen and Goodman, 1999,
https://doi.org/10.1006/csla.1999.0128, section 2.7.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np

from seqserve.models.data.cases import END
from seqserve.service.contract.padding import Array

START = "[START]"
Context = tuple[str, ...]


class WittenBell:
    """Probabilities of what follows a sequence of events: a label, or the end.

    After a context h that was seen c(h) times, with t(h) different followers,

        p(w | h) = (c(h, w) + t(h) · p(w | h without its first event)) / (c(h) + t(h))

    down to the empty context, below which all are equally likely. A context that was never seen is shortened.
    A start symbol precedes the first event, so the beginning of a sequence is a context of its own.

    Args:
        sequences: complete ones, each followed by its end.
        labels: every event there can be, in the order of the answer.
        order: of the longest n-gram; the context is one event less.

    Raises:
        KeyError: an event of a sequence is not among the labels.
    """

    def __init__(self, sequences: Iterable[Sequence[str]], labels: Sequence[str], order: int) -> None:
        self._order = order
        self._places = {label: place for place, label in enumerate((*labels, END))}
        counts: defaultdict[Context, Counter[str]] = defaultdict(Counter)
        for events in sequences:
            for place, event in enumerate((*events, END)):
                for context in _contexts(events[:place], order):
                    counts[context][event] += 1
        self._counts = {context: self._vector(followers) for context, followers in counts.items()}
        self._known: dict[Context, Array] = {}

    def probabilities(self, events: Sequence[str]) -> Array:
        """Return the probability of each label, and last of the end, after `events`: (labels + 1)."""
        return self._smoothed(_contexts(events, self._order)[0])

    def _vector(self, followers: Counter[str]) -> Array:
        counts = np.zeros(len(self._places))
        for event, count in followers.items():
            counts[self._places[event]] = count
        return counts

    def _smoothed(self, context: Context) -> Array:
        if context not in self._known:
            self._known[context] = self._interpolated(context)
        return self._known[context]

    def _interpolated(self, context: Context) -> Array:
        uniform = np.full(len(self._places), 1 / len(self._places))
        shorter = self._smoothed(context[1:]) if context else uniform
        counts = self._counts.get(context)
        if counts is None:
            return shorter
        kinds = np.count_nonzero(counts)
        mixed: Array = (counts + kinds * shorter) / (counts.sum() + kinds)
        return mixed


class MedianWait:
    """The median time until the next event, after the longest context of the last events that was seen.

    Args:
        sequences: (events, waits) each; the waits, one fewer, pass between one event and the next.
        order: as of the n-gram beside it; the context is one event less.
    """

    def __init__(self, sequences: Iterable[tuple[Sequence[str], Iterable[float]]], order: int) -> None:
        self._order = order
        waits: defaultdict[Context, list[float]] = defaultdict(list)
        for events, between in sequences:
            for place, wait in enumerate(between, 1):
                for context in _contexts(events[:place], order):
                    waits[context].append(float(wait))
        self._medians = {context: median(seen) for context, seen in waits.items()}

    def after(self, events: Sequence[str]) -> float:
        """Return the median wait after `events`; NaN where no wait was ever seen."""
        contexts = _contexts(events, self._order)
        return next((self._medians[c] for c in contexts if c in self._medians), float("nan"))


def _contexts(events: Sequence[str], order: int) -> list[Context]:
    """Return the last `order` - 1 events, the start symbol among them, and every shorter context."""
    longest = (START, *events)[max(0, len(events) + 2 - order) :]
    return [longest[start:] for start in range(len(longest) + 1)]
