"""Rows h and i: what the service takes to be there, and a model server in front of the model."""

import re
import sys
import time
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path

from tests.bench.bench import MANY, Bench
from tests.bench.processes import COMMAND, on_core, resident_mib, service, started
from tests.bench.speed import counted, pace
from tests.tfserving.process import serving

BESIDE = "TensorFlow with the model"
BARE = """
import sys, tensorflow as tf
session = tf.compat.v1.Session(graph=tf.Graph())
with session.graph.as_default():
    tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
print("loaded", flush=True)
sys.stdin.read()
"""


def footprint(bench: Bench) -> None:
    """Row h: seconds until ready and MiB then, beside TensorFlow that has loaded the same SavedModel."""

    def ours(_: int) -> tuple[float, float]:
        with service(bench.cores.server, bench.texts.root) as running:
            return running.start_seconds, resident_mib(running.pid)

    sides = {BESIDE: lambda _: _bare(bench, bench.texts.version), "seqserve": ours}
    turns = bench.turns(sides, 1 + 2 * bench.plan.is_whole)
    for at, (name, unit) in enumerate((("start to ready", "s"), ("memory when ready", "MiB"))):
        told = turns.of(itemgetter(at))
        bench.compare("h", name, told, "seqserve", unit, BESIDE)


def _bare(bench: Bench, version: Path) -> tuple[float, float]:
    began = time.perf_counter()
    with started(bench.cores.server, [sys.executable, "-c", BARE, str(version)]) as (process, _):
        assert process.stdout is not None
        while not re.match("loaded|$", process.stdout.readline()):
            pass
        return time.perf_counter() - began, resident_mib(process.pid)


def model_server(bench: Bench) -> None:
    """Row i: the gateway before a model server, both on one core, beside the embedded model."""
    subject = bench.texts
    with ExitStack() as stack:
        with on_core(bench.cores.server):
            flags = {"model_name": subject.name, "model_base_path": subject.root / subject.name}
            server = stack.enter_context(serving(None, **flags))
        _through(bench, server.address, "the test server")
    if bench.tfserving is not None:
        _through(bench, bench.tfserving, "TensorFlow Serving")


def _through(bench: Bench, address: str, title: str) -> None:
    subject, embedded = bench.texts, bench.service(bench.texts)
    settings = {"tfserving": address, "models": subject.name}
    with service(bench.cores.server, subject.root, COMMAND, **settings) as running:
        sides = {
            f"{name}, {counted(callers)}": pace(bench, subject, served, callers)
            for callers in (1, MANY)
            for name, served in (("embedded", embedded), (f"over {title}", running))
        }
        turns = bench.turns(sides)
    for callers in (1, MANY):
        name = f"over {title}, {counted(callers)}"
        alone = f"embedded, {counted(callers)}"
        bench.compare("i", name, turns, name, "texts/s", alone, called="embedded")
