"""A user's translator over candidates found in its texts: exported, asked at both doors, or refused."""

import gzip
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqserve.models.bring import bring
from seqserve.models.bring.load import load_contract
from seqserve.models.config import ConfigInvalid
from seqserve.models.data.partners import commonest, partners
from seqserve.service.contract.shortlist import Shortlist
from tests.models.bring.own import manifest_of
from tests.models.bring.translation.forms import (
    END,
    FORMS,
    LIMIT,
    SOURCE,
    START,
    TARGET,
    Form,
    drawn,
    gru_with_dot_attention,
)
from tests.models.bring.translation.test_answers import BEAMS, PENALTY, items
from tests.models.networks.test_decoding import beam_reference, greedy_reference

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
    pytest.mark.filterwarnings("ignore:Layer 'head'"),  # Keras, of a mask that a Sequential drops
]
SIZES = "[shortlist]\ncommon = 6\npartners = 1\n"
TEXTS, TRAINED = drawn(6), drawn(60, seed=8)


def written(text: str) -> list[int]:
    """Return the translation that the texts give for one: a word for each, of the second half as well."""
    return [3 + SOURCE.index(word) % (len(TARGET) - 3) for word in text.split()] + [END]


def in_columns(folder: Path) -> Path:
    """Write the texts to train on: one of them has a word that the source's vocabulary lacks."""
    lines = [f"{text}\t{' '.join(TARGET[i] for i in written(text))}\twho said so" for text in TRAINED]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "texts.tsv").write_text("\n".join([*lines, "", f"{'a ' * 20}\tq"]) + "\n")
    return folder / "texts.tsv"


def in_folder(folder: Path) -> Path:
    """Write the same texts in a folder, a file for each language."""
    lines = [line.split("\t") for line in in_columns(folder).read_text().splitlines() if line]
    texts = folder / "texts"
    texts.mkdir()
    for place, language in enumerate(("en", "de")):
        packed = gzip.compress("\n".join(line[place] for line in lines).encode())
        (texts / f"train.{language}.gz").write_bytes(packed)
    return texts


def small(form: Form) -> Form:
    """Return a form with few candidates."""
    top = f'{form.buckets}max_beams = {BEAMS}\nlanguages = {{ source = "en", target = "de" }}\n'
    return replace(form, buckets=top, contract=form.contract + SIZES)


def candidates() -> Any:
    """Return the function from a text to what it may write."""
    rows = [
        (np.array([SOURCE.index(word) for word in text.split()]), np.array(written(text))) for text in TRAINED
    ]
    table, common = partners(rows, len(SOURCE), 1, 0), commonest(rows, len(TARGET), 6)

    def of(text: str) -> set[int]:
        own = {int(table[SOURCE.index(word), 0]) for word in text.split()}
        return own | {0, 1, START, END} | set(common.tolist())

    return of


@pytest.fixture(scope="module", params=["bidirectional", "nested"])
def narrowed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Form, Path]:
    """A translator of probabilities, a layer of which runs over time, and one of logits, of nested models."""
    form, folder = FORMS[request.param](), tmp_path_factory.mktemp(request.param)
    texts = in_folder(folder) if request.param == "nested" else in_columns(folder)
    return form, small(form).export(folder, shortlist_from=texts)


def test_each_row_writes_the_best_of_its_own_candidates(narrowed: tuple[Form, Path]) -> None:
    """Greedily and by beams, as the references do whose other pieces have a p of 0; others beside them."""
    form, version = narrowed
    own, limit = candidates(), 5
    options = {"beam_size": BEAMS, "n_best": BEAMS, "length_penalty": PENALTY, "max_length": limit}
    answers = zip(
        TEXTS, items(version, texts=TEXTS), items(version, texts=TEXTS[:3], **options), strict=False
    )
    for text, greedily, beamed in answers:

        def log_p(ids: list[int], text: str = text) -> list[float]:
            every = form.next_log_p(text)(ids)
            kept = [p if i in own(text) else -math.inf for i, p in enumerate(every)]
            return [p - math.log(sum(map(math.exp, kept))) for p in kept]

        ids, score = greedy_reference(log_p, LIMIT, 1.0)
        assert greedily["text"] == " ".join(TARGET[i] for i in ids if i != END)
        assert greedily["score"] == pytest.approx(score, abs=1e-4)
        wanted = beam_reference(log_p, BEAMS, limit, PENALTY)
        got = [beamed, *beamed["alternatives"]]
        assert [one["score"] for one in got] == pytest.approx([score for _, score in wanted], abs=1e-4)
    assert [item["text"] for item in items(version, texts=TEXTS)] != [form.text(text) for text in TEXTS]


def test_the_manifest_and_the_card_tell_of_it(narrowed: tuple[Form, Path]) -> None:
    manifest = manifest_of(narrowed[1])
    file = (manifest.card or {})["shortlist_from"]["file"]
    assert file in ("texts", "texts.tsv")
    assert manifest.decode is not None
    assert manifest.decode.shortlist == Shortlist(common=6, partners=1)
    wanted = {"file": file, "pairs": len(TRAINED), "passed_over": 1}
    assert (manifest.card or {})["shortlist_from"] == wanted


def refused(form: Form, folder: Path, texts: Path | None, imports: str | None = None) -> str:
    """Return why a form is refused with these texts."""
    path, contract = form.save(folder)
    files = []
    if imports is not None:
        (folder / "steps.py").write_text(imports)
        files = [folder / "steps.py"]
    with pytest.raises(ConfigInvalid) as caught:
        bring(path, load_contract(contract), 1, files, shortlist_from=texts)
    return caught.value.message


def test_texts_that_are_none_are_refused(tmp_path: Path) -> None:
    form, file = small(gru_with_dot_attention()), tmp_path / "texts.tsv"
    file.write_text("a b\tp\n\nc d\n")
    assert refused(form, tmp_path, file).endswith("line 3: a source, a tab and its translation are expected")
    file.write_text(f"{'a ' * 20}\tp\n")
    assert "none of its 1 pairs is of the model's vocabularies and lengths" in refused(form, tmp_path, file)
    unnamed = replace(form, buckets=f"max_beams = {BEAMS}\n")
    assert "is a folder: give languages" in refused(unnamed, tmp_path, tmp_path)
    file.write_text("a b\tp q\n")
    assert "its translations have 2 pieces, fewer than twice max_beams, 3" in refused(form, tmp_path, file)
    assert refused(form, tmp_path, None).startswith("shortlist: give --shortlist-from TEXTS")
    few = replace(form, contract=form.contract.replace("common = 6", "common = 5"))
    assert "shortlist.common: 5 is less than twice max_beams, 3" in refused(few, tmp_path, file)


STEPS = """
import keras
import tensorflow as tf

def load(path):
    model = keras.saving.load_model(path, compile=False)
    scores, table = model.get_layer("scores"), tf.random.stateless_normal([12, {entries}], (1, 2))

    def encode(ids):
        return tf.one_hot(ids[:, 0], 24), ()

    def advance(word, state, memory):
        {advance}

    return encode, advance
"""
"""`scores` takes 24 numbers."""


@pytest.mark.parametrize(
    ("advance", "why"),
    [
        (
            "return tf.matmul(state[:, :12], table), state",
            "a step of the decoder runs 0 Dense layers of 15 units",
        ),
        (
            "x = scores(state); return x - tf.reduce_min(x, 1, True), state",
            "are not those that the model gives",
        ),
        (
            "return tf.ensure_shape(scores(state), [None, {entries}]), state",
            "the model fails on scores of some",
        ),
    ],
)
def test_a_step_that_cannot_be_cut_down_is_refused(advance: str, why: str, tmp_path: Path) -> None:
    form = small(gru_with_dot_attention())
    form = replace(form, buckets=form.buckets + 'function = "load"\n')
    steps = STEPS.format(advance=advance, entries=len(TARGET)).replace("{entries}", str(len(TARGET)))
    message = refused(form, tmp_path, in_columns(tmp_path), steps)
    assert message.startswith("--shortlist-from: ")
    assert why in message
