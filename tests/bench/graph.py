"""Two exports of the same weights beside each other: the graph alone, on one thread, in turns.

`python -m tests.bench.graph OLD NEW [--texts FILE]`, each ROOT/NAME/NUMBER. Rows a second of processor time,
and the ops that a step of decoding runs, by TensorFlow's own trace: what a step costs on a GPU. Without
--texts the sentences of the made model are translated.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from seqserve.service.contract.padding import Row, pad_batch
from seqserve.service.core.golden import body_of
from tests.bench.ideal import served
from tests.bench.made import TEXTS, sentences
from tests.bench.turns import Turns

THREADS = ("intra_op_parallelism_threads", "inter_op_parallelism_threads")
SIZES, BEAMS, STEPS = (1, 64), (1, 5), 12
SOURCE = "source_ids"
SLICE = 0.5
"""Seconds of processor time of each side in a turn, at least."""


class Graph:
    """A version in a Session of one thread, and rows encoded for one number of beams."""

    def __init__(self, folder: Path, texts: Sequence[str], beams: int) -> None:
        import tensorflow as tf

        self._served = served(folder)
        request = {"texts": list(texts), "beam_size": beams}
        plan = self._served.codec.plan(body_of(self._served, request))
        self._options = plan.batch_options
        self.rows = sorted((plan.encode(text).row for text in plan.items), key=lambda row: row.length)
        config = tf.compat.v1.ConfigProto(**dict.fromkeys(THREADS, 1))
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        with self._session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self._called = meta.signature_def[plan.signature]
        self._signature = self._served.manifest.signatures[plan.signature]

    def run(self, rows: Sequence[Row], **how: Any) -> dict[str, np.ndarray]:
        """Translate a batch; `how` are arguments of `Session.run`, and `max_length`."""
        length = max(row.length for row in rows)
        inputs = pad_batch(rows, length, self._signature, self._served.manifest, self._options)
        if "max_length" in how:
            inputs["max_length"] = np.full_like(inputs["max_length"], how.pop("max_length"))
        feeds = {self._called.inputs[name].name: value for name, value in inputs.items()}
        fetches = {name: info.name for name, info in self._called.outputs.items()}
        outputs: dict[str, np.ndarray] = self._session.run(fetches, feeds, **how)
        return outputs

    def rows_a_second(self, batches: Sequence[Sequence[Row]]) -> float:
        """Return rows a second of processor time."""
        done, began = 0, time.process_time()
        while time.process_time() - began < SLICE:
            for batch in batches:
                self.run(batch)
                done += len(batch)
        return done / (time.process_time() - began)

    def union(self, batches: Sequence[Sequence[Row]]) -> float | None:
        """Return how many pieces a batch works on, on average; None where it works on all."""
        names = [f"shortlist_{part}/Read/ReadVariableOp" for part in ("partners", "always")]
        if names[0] not in {op.name for op in self._session.graph.get_operations()}:
            return None
        partners, always = self._session.run([f"{name}:0" for name in names])
        common = np.flatnonzero(always)
        ids = [np.concatenate([row.inputs[SOURCE] for row in batch]) for batch in batches]
        return float(np.mean([len(np.union1d(partners[each], common)) for each in ids]))

    def step_ops(self, rows: Sequence[Row]) -> Counter[str]:
        """Return how often a step runs each kind of op."""
        short, long = (self._traced(rows, steps) for steps in (1, 1 + STEPS))
        return Counter({op: round((long[op] - short[op]) / STEPS) for op in long if long[op] > short[op]})

    def _traced(self, rows: Sequence[Row], steps: int) -> Counter[str]:
        import tensorflow as tf

        told = tf.compat.v1.RunMetadata()
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        self.run(rows, max_length=steps, options=options, run_metadata=told)
        nodes = (node for device in told.step_stats.dev_stats for node in device.node_stats)
        return Counter(node.timeline_label.rpartition(" = ")[2].partition("(")[0] for node in nodes)


def batches_of(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    """Return batches of rows of like length, from short ones to long ones."""
    starts = np.linspace(0, len(rows) - size, 8 if size == 1 else 3).astype(int)
    return [rows[start : start + size] for start in starts]


def compared(graphs: Mapping[str, Graph], size: int, turns: int) -> Turns[float]:
    """Return rows a second of each graph, turn by turn."""
    batches = {name: batches_of(graph.rows, size) for name, graph in graphs.items()}
    for name, graph in graphs.items():
        for batch in batches[name]:
            graph.run(batch)
    took: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(turns):
        for name, graph in graphs.items():
            took[name].append(graph.rows_a_second(batches[name]))
    return Turns(took)


def differing(graphs: Mapping[str, Graph]) -> tuple[float, float]:
    """Return the share of outputs whose ids differ, and the largest difference of the others' scores."""
    old, new = (list(_all_best(graph)) for graph in graphs.values())
    same = [abs(a[1] - b[1]) for a, b in zip(old, new, strict=True) if a[0] == b[0]]
    return 1 - len(same) / len(old), max(same, default=0.0)


def _all_best(graph: Graph) -> Iterator[tuple[list[int], float]]:
    """Yield the ids and the score of every row's best output."""
    for start in range(0, len(graph.rows), SIZES[-1]):
        outputs = graph.run(graph.rows[start : start + SIZES[-1]])
        for ids, length, score in zip(*(outputs[n][:, 0] for n in ("ids", "lengths", "scores")), strict=True):
            yield ids[:length].tolist(), float(score)


def main(
    old: Path,
    new: Path,
    texts: Annotated[Path | None, typer.Option()] = None,
    turns: int = 5,
    ops: bool = False,
) -> None:
    """Print the table; with --ops the kinds of op as well."""
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""})
    lines = sentences(TEXTS, 4) if texts is None else texts.read_text("utf-8").splitlines()
    for beams in BEAMS:
        graphs = {name: Graph(folder, lines[:512], beams) for name, folder in (("old", old), ("new", new))}
        steps = {name: graph.step_ops(graph.rows[-1:]) for name, graph in graphs.items()}
        before, after = (counter.total() for counter in steps.values())
        share, off = differing(graphs)
        typer.echo(f"{beams} beams: {after} ops a step, {before} before ({after / before:.2f})")
        typer.echo(f"{beams} beams: {share:.1%} of outputs differ; scores of the others by {off:.1e} at most")
        for name, counter in steps.items() if ops else ():
            typer.echo(f"  {name}: {json.dumps(dict(counter.most_common()))}")
        for size in SIZES:
            took = compared(graphs, size, turns)
            union = graphs["new"].union(batches_of(graphs["new"].rows, size))
            if union is not None:
                typer.echo(f"{beams} beams, {size} rows: {union:.0f} pieces in the batch's union")
            ratios = took.ratios("new", "old")
            typer.echo(
                f"{beams} beams, {size} rows: {took.median('new'):.0f} rows/s, {took.median('old'):.0f} "
                f"before: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    typer.run(main)
