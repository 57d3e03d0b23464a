"""Room for connections: as many as wanted, unless descriptors are few; the soft limit is no limit."""

import resource

import pytest

from seqserve.service.edge.descriptors import room_for_grpc, room_for_rest
from seqserve.service.rpc.options import channel_options
from seqserve.service.settings import Settings


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "rest", "grpc"),
    [
        (100, 256, 4096, 96, 32),
        (256, 256, 10, 10, 10),
        (32, 32, 4096, 1, 1),
        (1024, resource.RLIM_INFINITY, 4096, 4096, 4096),
    ],
)
def test_room_follows_the_hard_limit(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, rest: int, grpc: int
) -> None:
    """The soft limit is raised; where the hard one is low, REST and gRPC together have what others leave."""
    limits = {resource.RLIMIT_NOFILE: (soft, hard)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    assert (room_for_rest(wanted), room_for_grpc(wanted)) == (rest, grpc)
    assert limits[resource.RLIMIT_NOFILE] == (hard, hard)
    told = dict(channel_options(Settings(grpc_connections=wanted)))
    assert told["grpc.max_allowed_incoming_connections"] == grpc
