"""One principal with many connections beside another that asks for a tenth of what can be done, by sockets.

`make bench BENCH="--only k"` does it with 2,000 connections over a real model, tests/core/test_share.py in
virtual time.
"""

from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import pytest

from seqserve.service.edge.keys import new_key
from seqserve.service.settings import Settings
from seqserve.v1 import sequence_pb2
from tests.bench.clients import OK, beside, by_grpc, by_rest, http, open_loop
from tests.edge.fakes import key_line
from tests.edge.service import PREDICT, Doors, listed, service

CROWD, POLITE = 200, 4
ROWS, SLOTS, BATCH_SECONDS = 2, 2, 0.1
CAPACITY = SLOTS * ROWS / BATCH_SECONDS  # rows a second: in order of arrival the crowd alone takes 5 s
SECONDS, PATIENCE = 2.5, 2.0
REFUSALS = Settings().principal_refusals_per_second


def asking(doors: Doors, door: str, key: str, count: int, seconds: float | None = None) -> tuple[Any, bytes]:
    """Return callers of a door, each on a connection of its own, and what they send."""
    if door == "REST":
        timeout = None if seconds is None else f"{seconds:g}S"
        port, body = doors.started.rest_port, orjson.dumps({"sequences": [{"x": [1, 2]}]})
        request = http(port, "/v1/models/totals:predict", body, timeout, key)
        return by_rest(port, count), request
    asked = sequence_pb2.PredictRequest(model={"name": "totals"})
    asked.sequences.add().features["x"].numbers.values.extend([1, 2])
    callers = by_grpc(doors.started.grpc_port, PREDICT, count, count, key, seconds)
    return callers, asked.SerializeToString()


@pytest.mark.parametrize(
    ("door", "limits"),
    [("REST", {"principal_requests": 16}), ("gRPC", {"principal_requests": 16}), ("REST", {})],
    ids=["REST", "gRPC", "turns alone"],
)
async def test_another_keeps_its_requests(door: str, limits: dict[str, int], tmp_path: Path) -> None:
    """All of them, and the crowd has the rest; with limits also where it asks again at once."""
    one, other, told = new_key(), new_key(), Counter[int]()
    keys = listed(tmp_path, key_line("crowd", one), key_line("polite", other))
    async with service(keys=keys, max_batch_rows=ROWS, **limits) as doors:
        doors.backend.seconds = BATCH_SECONDS
        many, theirs = asking(doors, door, one, CROWD)
        few, own = asking(doors, door, other, POLITE, PATIENCE)
        async with many as crowd, few as polite:
            began = perf_counter()
            main = open_loop(polite, [own], CAPACITY / 10, SECONDS)
            load = await beside(crowd, [theirs], main, told, heeds=not limits)
            seconds = perf_counter() - began
    assert load.kept(PATIENCE) >= 0.99
    assert told[OK] > CAPACITY * SECONDS / 2
    assert told.total() - told[OK] <= REFUSALS * (1 + 2 * seconds)  # by chance told earlier, by half at most
