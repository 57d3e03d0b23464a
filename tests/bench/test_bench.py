"""The benchmark's own arithmetic, its made model, and its report; nothing is measured here."""

import asyncio
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import keras
import numpy as np
import orjson
import pytest
from rich.console import Console

from seqserve.models.networks.translation import Translator
from seqserve.service.contract.manifest import SpecialIds
from tests.bench import clients, made
from tests.bench.ceiling import SIZES, Table, ceiling_rate, ideal_rate
from tests.bench.clients import Ask, Load, beside, closed_loop
from tests.bench.report import Figure, Target, markdown, read_json, show, write_json, write_report

SPECIAL = SpecialIds()


def table(encoding: float = 1.0, step: float = 0.5) -> Table:
    """A table of which sums can be done by hand: a batch costs by its length, a step by its rows."""
    lengths = [4, 8]
    return Table(
        lengths,
        [[encoding * length for _ in SIZES] for length in lengths],
        [[step * size for size in SIZES] for _ in lengths],
    )


def test_a_batch_costs_its_encoding_and_the_steps_of_whoever_has_not_ended() -> None:
    """Padded to 8: 8 s; three rows alive for one step, two for a second, one for a third and fourth."""
    assert table().seconds([(4, 1), (8, 4), (6, 2)]) == pytest.approx(8 + 0.5 * (3 + 2 + 1 + 1))


def test_a_table_is_read_between_its_measurements_and_past_them() -> None:
    """Half-way is half-way; twice the longest, and twice the most rows, is twice as much."""
    assert table().encode_seconds(3, 6) == pytest.approx(6)
    assert table().step_seconds(3, 6) == pytest.approx(1.5)
    assert table().encode_seconds(1, 16) == pytest.approx(16)
    assert table().step_seconds(256, 4) == pytest.approx(128)


def test_the_ideal_sorts() -> None:
    """Two batches of two: 4 s and 8 s for their lengths, 0.5 s for each of the 8 steps."""
    assert ideal_rate(table(), [(4, 2), (8, 2), (4, 2), (8, 2)], rows=2) == pytest.approx(4 / (4 + 8 + 4))


def test_the_ceiling_of_one_caller_and_of_many() -> None:
    """One caller gets a text after 4 + 1 s. Where rows are free all go together: 8 in 4 s."""
    assert ceiling_rate(table(), [(4, 2)], 1) == pytest.approx(1 / 5)
    assert ceiling_rate(table(step=0.0), [(4, 2)], 8) == pytest.approx(8 / 4)


def test_the_ceiling_does_not_mix_lengths_where_that_costs_more() -> None:
    """Rows cost a second a cell, so a short one beside a long one is paid for as a long one."""
    lengths = [2, 8]
    by_cell = Table(lengths, [[float(n * size) for size in SIZES] for n in lengths], [[0.0] * len(SIZES)] * 2)
    mixed = ceiling_rate(by_cell, [(2, 0), (8, 0)], 64)
    assert mixed == pytest.approx(1 / 5, rel=0.1)  # each at its own cost, 2 or 8 s


def test_the_output_of_the_made_model_is_as_long_as_its_source_asks() -> None:
    """Little longer, scattered by its pieces."""
    keras.utils.set_random_seed(1)
    network = Translator(3000, 16, 24, 0.0, SPECIAL.model_dump())
    made.set_weights(network, made.Counter())
    random = np.random.default_rng(5)
    lengths = random.integers(6, 25, 200)
    source = np.full((200, 25), SPECIAL.pad, np.int32)
    for row, length in zip(source, lengths, strict=True):
        row[:length] = [*random.integers(4, 3000, length - 1), SPECIAL.end]
    ratio = decoded_lengths(network, source) / lengths
    assert ratio.mean() == pytest.approx(1.1, abs=0.1)
    assert 0.08 < ratio.std() < 0.25


def decoded_lengths(network: Translator, source: np.ndarray) -> np.ndarray:
    """Decode greedily, one step after another, as the exported loop does."""
    (state, memory), last = network.encode(source), np.full(len(source), SPECIAL.start)
    ends = np.zeros(len(source), int)
    for step in range(1, 80):
        embedded = network.embedding(last)
        state, context, _ = network.step(state, embedded, memory)
        readout = network.readout(np.concatenate([state[0], context, embedded], axis=-1))
        logits = np.array(readout) @ network.embedding.embeddings.numpy().T + network.bias.numpy()
        logits[:, [SPECIAL.pad, SPECIAL.start]] = -np.inf
        last = logits.argmax(axis=-1)
        ends[(ends == 0) & (last == SPECIAL.end)] = step
        if ends.all():
            break
    return ends


def test_sentences_are_as_long_as_captions_and_always_the_same() -> None:
    """The words of 2,000 of them have the captions' mean."""
    texts = made.sentences(2000, 1)
    assert texts[:3] == made.sentences(2000, 1)[:3]
    counts, shares = np.array(list(made.CAPTION_WORDS)), np.array(list(made.CAPTION_WORDS.values()))
    mean = (counts * shares).sum() / shares.sum()
    assert np.mean([len(text.split()) for text in texts]) == pytest.approx(mean, rel=0.03)


def test_a_rate_is_measured_from_bunch_to_bunch() -> None:
    """Ten answers every second, five seconds of them: ten a second, wherever the span begins and ends."""
    load = Load(begun=1.3, ended=5.2)
    for second in range(8):
        load.sent += [float(second)] * 10
        load.seconds += [1.0] * 10
        load.statuses += [200] * 10
    assert load.rate == pytest.approx(10.0)
    load.statuses[35] = 429  # no answer
    assert load.rate < 10.0


def test_who_is_refused_stays_away_but_keeps_no_span_from_its_end() -> None:
    """Eight callers, of whom one is answered: the others ask when they come, and when the span is to end."""
    asked: Counter[int] = Counter()

    def caller(number: int) -> Ask:
        async def ask(_: bytes) -> tuple[int, bytes]:
            asked[number] += 1
            await asyncio.sleep(0)
            return (200 if number == 0 else 429), b""

        return ask

    load = asyncio.run(closed_loop([caller(number) for number in range(8)], [b""], 0.2, comes=0.1))
    assert max(asked[number] for number in range(1, 8)) * 10 < asked[0]
    assert load.ended - load.begun >= 0.2


def test_others_send_beside_a_load_and_no_longer() -> None:
    """They are there when it begins, and cancelled when it ends, also where it fails."""
    under_way: set[bytes] = set()

    async def ask(request: bytes) -> tuple[int, bytes]:
        under_way.add(request)
        try:
            await asyncio.Event().wait()
        finally:
            under_way.discard(request)
        raise AssertionError

    async def load() -> None:
        assert under_way == {b"a", b"b"}
        raise RuntimeError("failed")

    with patch.object(clients, "HEAD", 0.0), pytest.raises(RuntimeError, match="failed"):
        asyncio.run(beside([ask, ask], [b"a", b"b"], load()))
    assert not under_way


def test_the_report_has_every_figure_in_each_form(tmp_path: Path) -> None:
    """JSON is a list of rows with these members; the table and the Markdown show ratio and target."""
    figures = [
        Figure("machine", "processor", "one"),
        Figure(
            "b", "ours, 64 callers", 80.0, "texts/s", "ceiling", 0.8, (0.78, 0.82), Target("at least", 0.8)
        ),
        Figure("c", "p99", 2.0, "ms", "FIFO's", 1.0, (0.9, 1.2), drifted=True),
        Figure("b", "broken", float("nan"), "texts/s", "ceiling", float("inf")),
        Figure("b", "seqserve by REST, one request of 64", 60.0, "texts/s"),
        Figure("b", "seqserve by REST, 64 callers", 70.0, "texts/s"),
    ]
    write_json(figures, tmp_path / "bench.json")
    rows = orjson.loads((tmp_path / "bench.json").read_bytes())
    members = {"row", "name", "value", "unit", "reference", "ratio", "spread", "target", "met", "drifted"}
    assert [set(row) for row in rows] == [members] * 6
    assert (rows[1]["ratio"], rows[1]["spread"], rows[1]["met"]) == (0.8, [0.78, 0.82], True)
    assert (rows[3]["value"], rows[3]["ratio"], rows[3]["target"]) == (None, None, None)
    assert [figure.name for figure in read_json(tmp_path / "bench.json")] == [f.name for f in figures]
    console = Console(record=True, width=160)
    show(figures, console)
    assert "≥ 0.8" in console.export_text()
    assert "| c | p99 | 2 | ms | FIFO's | 1 | 0.9 to 1.2, drift |  |" in markdown(figures)
    assert "| b | ours, 64 callers | 80 | texts/s | ceiling | 0.8 | 0.78 to 0.82 | ≥ 0.8 × ✓ |" in markdown(
        figures
    )
    write_report(figures, tmp_path / "docs")
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {
        "performance-table.md",
        "performance.png",
    }
