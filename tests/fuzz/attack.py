"""Many inputs, some of them at once: each is drawn from a seed, a name and a number, which find it again."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from random import Random

from tests.fuzz.findings import SLOW_SECONDS, Findings
from tests.fuzz.inprocess import Trial

Ground = Callable[[Findings], AbstractAsyncContextManager[dict[str, Trial]]]
Told = Callable[[str, int, int], None]
"""Hears of a trial's name, how many of its inputs have been tried, and of how many."""
SHARES = {"rest": 0.45, "grpc": 0.45, "manifest": 0.1, "http": 0.45, "http2": 0.1}
"""How many of a ground's inputs each of its trials gets."""
EVERY = 100
"""Inputs after which somebody is told."""


def nobody(name: str, tried: int, wanted: int) -> None:
    """Hear of nothing."""


async def attack(
    ground: Ground, count: int, seed: int, findings: Findings, together: int = 1, told: Told = nobody
) -> int:
    """Try `count` inputs on a ground, `together` at once, and return how many were tried."""
    tried = 0
    async with ground(findings) as trials:
        for name, trial in trials.items():
            wanted = round(count * SHARES[name])
            places = iter(range(wanted))
            workers = (
                _work(trial, name, places, seed, findings, together == 1, told, wanted)
                for _ in range(together)
            )
            await asyncio.gather(*workers)
            told(name, wanted, wanted)
            tried += wanted
    return tried


async def _work(
    trial: Trial,
    name: str,
    places: Iterator[int],
    seed: int,
    findings: Findings,
    is_alone: bool,
    told: Told,
    wanted: int,
) -> None:
    for place in places:
        findings.number = f"{seed}/{name}/{place}"
        began = time.perf_counter()
        try:
            await trial(Random(findings.number))
        except Exception as error:
            findings.add(f"{name} raised {type(error).__name__}", repr(error), b"")
        seconds = time.perf_counter() - began
        if is_alone and seconds > SLOW_SECONDS:
            findings.add(f"{name} took long", f"{seconds:.1f} s", b"")
        if place % EVERY == 0:
            told(name, place, wanted)
