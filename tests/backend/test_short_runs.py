"""Where the embedded backend runs a batch: on the event loop if it is alone and short, else in a thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from seqserve.service import errors
from seqserve.service.backend import session
from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.backend.embedded import EmbeddedBackend
from seqserve.service.backend.short_runs import MOST_SECONDS, SHORT_SECONDS
from seqserve.service.contract.padding import Array

SIGNATURE = "serving_default"
SPEC = Spec("shop", 1, SIGNATURE, "")
PATIENCE = 20.0
ROW = np.ones((1, 4), np.float32)
SHORT, LONG = SHORT_SECONDS / 4, SHORT_SECONDS * 4


class Model:
    """Takes as long as it is told, on a clock of its own, and writes down in which thread it ran."""

    def __init__(self) -> None:
        self.signatures = {SIGNATURE: None}
        self.now = 0.0
        self.takes = SHORT
        self.ran: list[str] = []
        self.before: Callable[[], object] = lambda: None

    def run(self, spec: Spec, inputs: Tensors, seconds: float) -> dict[str, Array]:
        self.ran.append("loop" if threading.current_thread() is threading.main_thread() else "thread")
        self.before()
        self.now += min(self.takes, seconds)
        if self.takes > seconds:
            raise errors.DeadlineExceeded("it did not answer in time")
        return {"y": next(iter(inputs.values()))}


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def backend(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EmbeddedBackend]:
    """A backend that has loaded the model."""
    (tmp_path / "shop" / "1").mkdir(parents=True)
    (tmp_path / "shop" / "1" / "saved_model.pb").write_text("graph")
    monkeypatch.setattr(session, "load", lambda folder: model)
    backend = EmbeddedBackend(tmp_path, check_files=False, clock=lambda: model.now)
    await backend.versions("shop")
    yield backend
    await backend.close()


async def asked(backend: EmbeddedBackend, array: Array = ROW, seconds: float = PATIENCE) -> None:
    """Run a batch."""
    await backend.predict(SPEC, {"x": array}, asyncio.get_running_loop().time() + seconds)


async def test_a_row_that_is_alone_is_run_at_once_where_the_last_was_short(
    backend: EmbeddedBackend, model: Model
) -> None:
    """Of the first nobody knows; the others end before the loop goes on to anything else."""
    await asked(backend)
    call = backend.predict(SPEC, {"x": ROW}, asyncio.get_running_loop().time() + PATIENCE)
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    assert ended.value.value["y"] is ROW
    assert model.ran == ["thread", "loop"]


@pytest.mark.parametrize("array", [np.ones((2, 4), np.float32), np.array([b"x"], object), np.array(1.0)])
async def test_what_is_not_one_row_of_numbers_is_run_in_a_thread(
    backend: EmbeddedBackend, model: Model, array: Array
) -> None:
    for _ in range(3):
        await asked(backend, array)
    assert model.ran == ["thread"] * 3


async def test_a_longer_row_is_expected_to_take_longer(backend: EmbeddedBackend, model: Model) -> None:
    """In proportion; how long a shorter one takes is not known to be less."""
    for length in (4, 12, 4, 16, 4, 1):
        await asked(backend, np.ones((1, length), np.float32))
    assert model.ran == ["thread", "loop", "loop", "thread", "loop", "loop"]


async def test_a_model_that_is_slow_is_run_in_a_thread_until_it_is_quick_again(
    backend: EmbeddedBackend, model: Model
) -> None:
    for model.takes in (SHORT, LONG, SHORT, SHORT):
        await asked(backend)
    assert model.ran == ["thread", "loop", "thread", "loop"]


async def test_beside_another_run_a_row_is_run_in_a_thread(backend: EmbeddedBackend, model: Model) -> None:
    """The loop goes on while the first one computes, and so may the next."""
    await asked(backend)
    begun, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(PATIENCE)

    model.before = wait
    first = asyncio.create_task(asked(backend, np.ones((2, 4), np.float32)))
    await begun.wait()
    model.before = goes_on.set
    await asked(backend)
    await first
    await asked(backend)
    assert model.ran == ["thread", "thread", "thread", "loop"]


async def test_a_run_that_takes_long_after_all_is_done_again_in_a_thread(
    backend: EmbeddedBackend, model: Model
) -> None:
    """It holds the loop no longer than that, and still has the rest of its time."""
    await asked(backend)
    model.takes = 10 * MOST_SECONDS
    await asked(backend)
    assert model.ran == ["thread", "loop", "thread"]
    assert model.now == pytest.approx(SHORT + MOST_SECONDS + model.takes)


async def test_a_deadline_that_comes_on_the_loop_ends_the_run(backend: EmbeddedBackend, model: Model) -> None:
    await asked(backend)
    model.takes = 10 * MOST_SECONDS
    with pytest.raises(errors.DeadlineExceeded):
        await asked(backend, seconds=MOST_SECONDS / 2)
    assert model.ran == ["thread", "loop"]
