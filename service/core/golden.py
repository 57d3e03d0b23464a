"""Golden examples: recorded when a version was exported, compared with what it answers here.

A version is tried by them before it becomes routable, and when it is exported or checked.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from seqserve.service import errors
from seqserve.service.contract.bounds import in_one_line
from seqserve.service.contract.items import Body, answers_as_json
from seqserve.service.core.doubts import JUDGED
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.types import Served
from seqserve.service.errors import SeqserveError

TRANSIENT = (
    errors.Unavailable,
    errors.DeadlineExceeded,
    errors.ResourceExhausted,
    errors.VersionNotFound,
)
"""Errors that say nothing about the version: it is examined again later."""
NEWER = frozenset({"all", "warning_details"})
"""Members that answers have gained: an example that was recorded without one holds as it did."""
LONGEST_SHOWN, LONGEST_MESSAGE = 200, 1000
"""Characters of a recorded value, and of why an example fails."""


async def run_examples(served: Served, runner: ItemRunner, deadline: float, device: str = "cpu") -> None:
    """Run every golden example through the whole pipeline.

    Args:
        device: the class of device whose tolerance counts, `cpu` or `gpu`.

    Raises:
        GoldenFailed: there is no example, one takes more cells than a request may, an answer is not the
            recorded one, or the model failed on an example.
        TRANSIENT: nothing can be concluded now.
    """
    if not any(example.items for example in served.manifest.examples):
        raise errors.GoldenFailed("examples: none with an item; a version needs one that shows its answer")
    tolerance = float(getattr(served.manifest.tolerance, device))
    for number, example in enumerate(served.manifest.examples):
        got = await answers(served, runner, example.request, deadline)
        wanted, got = _unjudged(example.items), _unjudged(as_recorded(example.items, got))
        difference = first_difference(wanted, got, tolerance)
        if difference:
            raise errors.GoldenFailed(f"examples.{number}: {difference}")


async def answers(
    served: Served, runner: ItemRunner, request: dict[str, Any], deadline: float
) -> list[dict[str, Any]]:
    """Answer a REST body by one version, as JSON.

    Raises:
        GoldenFailed: the body does not fit, or an item failed.
        TRANSIENT: nothing can be concluded now.
    """
    try:
        body = body_of(served, request)
        outcomes = await runner.run(served, body, deadline)
        failed = next((outcome for outcome in outcomes if isinstance(outcome, SeqserveError)), None)
        if failed is not None:
            raise failed
    except (*TRANSIENT, errors.GoldenFailed):
        raise
    except (SeqserveError, ValidationError) as error:
        raise errors.GoldenFailed(in_one_line(f"examples: {error}")[:LONGEST_MESSAGE]) from error
    return answers_as_json([outcome for outcome in outcomes if not isinstance(outcome, SeqserveError)])


def body_of(served: Served, request: dict[str, Any]) -> Body:
    """Read a REST body as the one that the version's task answers; raises pydantic's ValidationError."""
    return served.task.body.model_validate(request)


def _unjudged(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the warnings that are this program's judgement, and no answer of the version's."""
    return [
        item
        | {name: [one for one in item[name] if one not in JUDGED] for name in ("warnings",) if name in item}
        for item in items
    ]


def as_recorded(wanted: Any, got: Any) -> Any:
    """Return an answer without the members that answers have gained since another one was recorded."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        old = {key: value for key, value in got.items() if key in wanted or key not in NEWER}
        return {key: as_recorded(wanted.get(key), value) for key, value in old.items()}
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        return [as_recorded(*pair) for pair in zip(wanted, got, strict=True)]
    return got


def first_difference(wanted: Any, got: Any, tolerance: float, path: str = "items") -> str | None:
    """Say where two JSON values differ by more than `tolerance * (1 + |wanted|)`; None if they do not."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        if wanted.keys() != got.keys():
            return f"{path} has members {sorted(got)}, recorded {sorted(wanted)}"
        pairs: Sequence[tuple[Any, Any, Any]] = [(key, wanted[key], got[key]) for key in wanted]
    elif isinstance(wanted, list) and isinstance(got, list):
        if len(wanted) != len(got):
            return f"{path} has {len(got)} entries, recorded {len(wanted)}"
        pairs = [(place, *pair) for place, pair in enumerate(zip(wanted, got, strict=True))]
    else:
        return (
            None if _close(wanted, got, tolerance) else f"{path} is {_shown(got)}, recorded {_shown(wanted)}"
        )
    differences = (first_difference(w, g, tolerance, f"{path}.{key}") for key, w, g in pairs)
    return next(filter(None, differences), None)


def _close(wanted: Any, got: Any, tolerance: float) -> bool:
    numbers = (int, float)
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got  # Python's True is 1, JSON's is not
    if isinstance(wanted, numbers) and isinstance(got, numbers):
        return abs(wanted - got) <= tolerance * (1 + abs(wanted))
    return bool(wanted == got)


def _shown(value: Any) -> str:
    return repr(value)[:LONGEST_SHOWN]
