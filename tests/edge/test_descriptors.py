"""Room for connections: as many as wanted, unless descriptors are few; the soft limit is no limit."""

import resource

import pytest

from seqserve.service.edge.descriptors import room_for_connections


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room"),
    [
        (100, 256, 4096, 144),
        (256, 256, 10, 10),
        (32, 32, 4096, 1),
        (1024, resource.RLIM_INFINITY, 4096, 4096),
    ],
)
def test_room_follows_the_hard_limit(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, room: int
) -> None:
    """The soft limit is raised; where the hard one is low, three quarters of what others leave are room."""
    limits = {resource.RLIMIT_NOFILE: (soft, hard)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    assert room_for_connections(wanted) == room
    assert limits[resource.RLIMIT_NOFILE] == (hard, hard)
