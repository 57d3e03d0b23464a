"""Rows h and i: what the service takes to be there, and a model server in front of the model."""

import re
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.processes import COMMAND, on_core, resident_mib, service, started
from tests.bench.speed import MANY, measured
from tests.tfserving.process import serving

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
    bare, ours = [], []
    for number in range(bench.plan.repeats):
        bench.say(f"(h) start, {number + 1} of {bench.plan.repeats}")
        bare.append(_bare(bench, bench.texts.version))
        with service(bench.cores.server, bench.texts.root) as running:
            ours.append((running.start_seconds, resident_mib(running.pid)))
    for at, (name, unit) in enumerate((("start to ready", "s"), ("memory when ready", "MiB"))):
        alone = statistics.median(run[at] for run in bare)
        spread = [run[at] / alone for run in ours]
        value = statistics.median(run[at] for run in ours)
        bench.add("h", name, value, unit, ("TensorFlow with the model", alone), spread=spread)


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
    measured(bench, subject)
    with ExitStack() as stack:
        with on_core(bench.cores.server):
            flags = {"model_name": subject.name, "model_base_path": subject.root / subject.name}
            server = stack.enter_context(serving(None, **flags))
        _through(bench, server.address, "the test server")
    if bench.tfserving is not None:
        _through(bench, bench.tfserving, "TensorFlow Serving")


def _through(bench: Bench, address: str, title: str) -> None:
    subject, ours = bench.texts, measured(bench, bench.texts)
    settings = {"tfserving": address, "models": subject.name}
    with service(bench.cores.server, subject.root, COMMAND, **settings) as running:
        requests = subject.rest(running.rest_port)
        for callers in (1, MANY):
            bench.say(f"(i) {title}: {callers} callers")
            rates = [
                bench.closed(bench.by_rest(running, callers), requests, bench.plan.seconds / 2, seed).rate
                for seed in range(bench.plan.repeats)
            ]
            name = f"over {title}, {callers} caller{'s' * (callers > 1)}"
            alone = ours.rate(callers)
            spread = [rate / alone for rate in rates]
            bench.add("i", name, statistics.median(rates), "texts/s", ("embedded", alone), spread=spread)
