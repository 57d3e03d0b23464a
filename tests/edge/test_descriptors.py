"""Room for connections: as many as wanted, unless descriptors are few; the soft limit is no limit."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room"), [(100, 256, 4096, 144), (256, 256, 10, 10), (32, 32, 4096, 1)]
)
def test_room_follows_the_hard_limit(soft: int, hard: int, wanted: int, room: int) -> None:
    """In a process of its own, whose limit is lowered; three quarters of what others leave."""
    code = (
        "from resource import *; from seqserve.service.edge.descriptors import room_for_connections; "
        f"setrlimit(RLIMIT_NOFILE, ({soft}, {hard})); "
        f"print(room_for_connections({wanted}), getrlimit(RLIMIT_NOFILE)[0])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(room), str(hard)]
