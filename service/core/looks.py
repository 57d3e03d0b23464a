"""Looks at models, each a task. A model has one at a time; whoever asks meanwhile shares the one after it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from seqserve.service.errors import SeqserveError

Look = Callable[[str], Coroutine[Any, Any, SeqserveError | None]]
"""Looks at the model of that name; returns why it could not."""
LookTask = asyncio.Task[SeqserveError | None]


class Looks:
    """Runs `look` for each model in turn with itself; different models do not wait for each other."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._turns: dict[str, asyncio.Lock] = {}
        self._next: dict[str, LookTask] = {}  # those that have not begun
        self._tasks: set[LookTask] = set()

    def following(self, name: str) -> LookTask:
        """Return the look at a model that begins next: one that waits for its turn already, or a new one."""
        if name not in self._next:
            task = asyncio.create_task(self._in_turn(name), name=f"look at {name}")
            self._next[name] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._next[name]

    async def end(self, name: str) -> None:
        """Cancel the looks at a model, and wait for them to end."""
        self._next.pop(name, None)
        self._turns.pop(name, None)
        await _cancelled({task for task in self._tasks if task.get_name() == f"look at {name}"})

    async def close(self) -> None:
        """Cancel every look, and wait for them to end."""
        await _cancelled(set(self._tasks))

    async def _in_turn(self, name: str) -> SeqserveError | None:
        async with self._turns.setdefault(name, asyncio.Lock()):
            self._next.pop(name, None)
            return await self._look(name)


async def _cancelled(tasks: set[LookTask]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
