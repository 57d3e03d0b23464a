"""What people would write or pick to serve the same SavedModel: each a program of its own, for `make bench`.

The harness starts one by `PYTHON -m MODULE VERSION_DIR --port PORT [--batch N]`, polls its health path until
200, talks to it as `PEERS` says, and ends it by SIGTERM.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Task = Literal["translation", "sequence"]
"""As the manifest has it."""
REQUEST: dict[Task, str] = {"translation": "texts", "sequence": "sequences"}
ANSWER: dict[Task, str] = {"translation": "translations", "sequence": "labels"}
"""The lists in a request's and an answer's body: an item, and its text or best label, in order."""


def plain_body(task: Task, items: Sequence[Any]) -> dict[str, Any]:
    """Return the body that asks for the items."""
    return {REQUEST[task]: list(items)}


def plain_answers(task: Task, body: Any) -> list[str]:
    """Return the texts or labels of an answer's body, in order."""
    answers: list[str] = body[ANSWER[task]]
    return answers


def bare_answers(task: Task, body: Any) -> list[str]:
    """Return the texts or labels of a body that is the list itself."""
    answers: list[str] = body
    return answers


@dataclass(frozen=True, slots=True)
class Peer:
    """How to start and call one.

    Args:
        environment: `main` is the project's own, `peers` that of requirements/bench.txt.
        packages: whose versions belong into the report.
        batches: it takes `--batch`, the most requests that it joins.
    """

    title: str
    packages: tuple[str, ...]
    environment: Literal["main", "peers"]
    batches: bool
    health: str = "/healthz"
    paths: tuple[tuple[Task, str], ...] = (("translation", "/translate"), ("sequence", "/predict"))
    to_body: Callable[[Task, Sequence[Any]], dict[str, Any]] = plain_body
    from_answer: Callable[[Task, Any], list[str]] = plain_answers

    def path(self, task: Task) -> str | None:
        """Return where it answers a task, or None where it does not."""
        return dict(self.paths).get(task)


PEERS: dict[str, Peer] = {
    "fastapi_plain": Peer(
        "a FastAPI endpoint that calls the loaded model once a request",
        packages=("fastapi", "uvicorn", "tensorflow"),
        environment="main",
        batches=False,
    ),
    "keras_eager": Peer(
        "the eager decode loop of the public NMT tutorial, behind FastAPI, once a request",
        packages=("keras", "fastapi", "tensorflow"),
        environment="main",
        batches=False,
        paths=(("translation", "/translate"),),
    ),
    "litserve_batching": Peer(
        "LitServe with its dynamic batching, padding by hand",
        packages=("litserve", "tensorflow"),
        environment="peers",
        batches=True,
        health="/health",
    ),
    "bentoml_batching": Peer(
        "BentoML with its adaptive batching, padding by hand",
        packages=("bentoml", "tensorflow"),
        environment="peers",
        batches=True,
        health="/readyz",
        from_answer=bare_answers,
    ),
    "ray_batching": Peer(
        "Ray Serve with its serve.batch, padding by hand",
        packages=("ray", "tensorflow"),
        environment="peers",
        batches=True,
    ),
}
"""By the module's name in this package."""

LEFT_OUT = {
    "mlserver": "MLServer 1.7 needs FastAPI below 0.116, protobuf below 7 and Python below 3.13, "
    "so it does not install beside the others",
}
"""What was looked at and is not measured, and why."""
