"""The least part of `make chaos`: gateways stopped and replaced under load lose nothing; and what judges."""

import shutil
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from tests.bench.processes import cores
from tests.chaos import stops
from tests.chaos.callers import Made, counted, in_turns
from tests.chaos.sessions import live_sessions
from tests.chaos.world import Finding, World
from tests.redis_store.server import PROGRAM

ROUNDS = 10


@pytest.fixture
def world(root: Path, tmp_path: Path) -> World:
    """A world of its own, over the small `shop`; the seed is in the output."""
    seed = Random().getrandbits(32)
    print(f"seed {seed}")
    own = tmp_path / "root"
    own.mkdir()
    (own / "shop").symlink_to(root / "shop")
    return World(own, cores(), Random(seed), Console())


def bad(findings: list[Finding]) -> list[Finding]:
    """Return what was not as wanted."""
    print(*findings, sep="\n")
    return [found for found in findings if found.is_good is False]


async def test_sigterm_under_load_loses_no_call_of_either_door(world: World) -> None:
    assert bad(await stops.sigterms(world, ROUNDS)) == []


async def test_a_rolling_update_loses_nothing(world: World) -> None:
    assert bad(await stops.rolling_update(world)) == []


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs redis-server, which .ci/run installs")
async def test_live_sessions_lose_and_double_nothing(world: World, successor: Path) -> None:
    """Two gateways over one Redis; one is killed, and a version swapped in."""
    assert bad(await live_sessions(world, successor / "shop" / "1", sessions=50, kills=1)) == []


@pytest.mark.parametrize("lost", [0, 1])
def test_one_call_that_is_not_answered_is_seen(lost: int) -> None:
    calls = [Made("REST", 0.0, 0.5, "OK")] * 9 + [Made("REST", 0.0, 1.5, "DRAINING")] * lost
    found = stops.answered("SIGTERM", calls, "REST")
    assert found.is_good is (lost == 0)
    assert f"{lost} not answered" in found.seen
    assert stops.answered("SIGTERM", [], "REST").is_good is False  # where nobody called, nothing is shown
    assert counted(calls).startswith("9 OK")


def test_gateways_are_chosen_in_turns_among_those_that_are_ready() -> None:
    ready: list[object] = []
    choose = in_turns(ready)  # type: ignore[arg-type]
    assert choose() is None
    ready.extend("ab")
    assert sorted(str(choose()) for _ in range(4)) == ["a", "a", "b", "b"]
    ready.remove("a")
    assert choose() == "b"
