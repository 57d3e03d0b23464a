"""What counts as right at each prefix of a case, and differences of two models."""

import numpy as np
import pytest

from seqserve.models.config import EventsData
from seqserve.models.data.cases import END, Case
from seqserve.models.evaluate.prefixes import differences_of, figures_of, prefixes_of, score

DAY = 86400.0


DATA = EventsData(kind="log")


def test_what_counts_as_right() -> None:
    """Four prefixes: right, the end predicted where b followed, the end right, and one that was refused."""
    cases = [Case(("a", "b", "a", "b"), (0.0, DAY, 3 * DAY, 4 * DAY)), Case(("a", "b"), (0.0, DAY))]
    prefixes = list(prefixes_of(cases, DATA))
    assert [(p.case, p.events, p.truth) for p in prefixes] == [
        (0, 2, "a"),
        (0, 3, "b"),
        (0, 4, END),
        (1, 2, END),
    ]
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.1, 0.1, 0.8], [0, 0, 0]])
    scores = score(prefixes, ("a", "b", END), probabilities, np.array([1.0, 1.5, 9.0, np.nan]))
    figures = {name: getattr(f, "value", f) for name, f in figures_of(scores, "days").items()}
    losses = -np.log([0.7, 0.3, 0.8, 1e-9])
    assert figures == pytest.approx(
        {
            "prefixes": 4,
            "log_loss": losses.mean(),
            "accuracy": 0.5,
            "accuracy_without_end": 0.5,
            "accuracy_among_events": 1.0,
            "mae_days": 0.75,  # 1 for 2 days, 1.5 for 1 day
            "refused": 1,
        }
    )


def test_a_difference_is_paired() -> None:
    """A model that is better by the same amount on every prefix has an interval of no width."""
    case = Case(tuple("abababab"), tuple(DAY * n for n in range(8)))
    prefixes = list(prefixes_of([case, case, case], DATA))
    hard = np.random.default_rng(0).uniform(0.1, 0.4, len(prefixes))
    waits = np.zeros(len(prefixes))

    def scored(given: np.ndarray) -> object:
        places = [("a", "b", END).index(prefix.truth) for prefix in prefixes]
        table = np.repeat((1 - given)[:, None] / 2, 3, axis=1)
        table[np.arange(len(places)), places] = given
        return score(prefixes, ("a", "b", END), table, waits)

    differences = differences_of(scored(2 * hard), scored(hard), "days")  # type: ignore[arg-type]
    difference = differences["log_loss"]
    assert [difference.low, difference.high] == pytest.approx([-np.log(2)] * 2)  # type: ignore[union-attr]
    assert differences["log_loss_share"].value == pytest.approx(-np.log(2) / -np.log(hard).mean())  # type: ignore[union-attr]
