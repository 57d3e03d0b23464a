"""Translators of every form, exported and asked at both doors: they answer as their user's own loop does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.doors import translate
from tests.models.bring.own import called, manifest_of
from tests.models.bring.translation.forms import END, FORMS, LIMIT, TARGET, Form, drawn
from tests.models.networks.test_decoding import SPECIAL, beam_reference

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
    pytest.mark.filterwarnings("ignore:Layer 'head'"),  # Keras, of a mask that a Sequential drops
]
TEXTS = drawn(8)
BEAMS, PENALTY = 3, 0.6
Exported = tuple[Form, Path]


@pytest.fixture(scope="module", params=FORMS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Each form, built and exported."""
    form = FORMS[request.param]()
    examples = (f'[[examples]]\nsource = "{text}"\nexpected = "{form.text(text)}"\n' for text in TEXTS[:4])
    told = replace(form, contract=form.contract + "".join(examples))
    return form, told.export(tmp_path_factory.mktemp(request.param))


def items(version: Path, **options: Any) -> list[dict[str, Any]]:
    """Return what both doors answer: the same."""
    doors = called(version, translate(model="own", **options))
    assert all(isinstance(answer, dict) for answer, _ in doors), doors
    answered = [answer["translations"] for answer, _ in doors]
    for one, other in zip(*answered, strict=True):
        assert one["text"] == other["text"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    return answered[0]


def test_greedy_is_the_users_own_loop(exported: Exported) -> None:
    """The pieces, and the score: Σ log p over the length, the end included."""
    form, version = exported
    assert (manifest_of(version).card or {})["metrics"] == {"compared": 4, "equal": 4}
    wanted = [form.translate(text) for text in TEXTS]
    assert len(set(map(tuple, wanted))) > len(TEXTS) // 2
    for text, ids, item in zip(TEXTS, wanted, items(version, texts=TEXTS), strict=True):
        assert item["text"] == " ".join(TARGET[i] for i in ids)
        pieces = ids if len(ids) == LIMIT else [*ids, END]
        total = sum(form.next_log_p(text)(pieces[:n])[piece] for n, piece in enumerate(pieces))
        assert item["score"] == pytest.approx(total / len(pieces), abs=1e-4)


def test_beams_are_the_slow_reference(exported: Exported) -> None:
    """All hypotheses with their scores, searched by the same step of the user's own model."""
    form, version = exported
    assert SPECIAL.end == END
    texts, limit = TEXTS[:3], 5
    options = {"beam_size": BEAMS, "n_best": BEAMS, "length_penalty": PENALTY, "max_length": limit}
    for text, item in zip(texts, items(version, texts=texts, **options), strict=True):
        wanted = beam_reference(form.next_log_p(text), BEAMS, limit, PENALTY)
        got = [item, *item["alternatives"]]
        assert [one["text"] for one in got] == [
            " ".join(TARGET[i] for i in ids if i != END) for ids, _ in wanted
        ]
        assert [one["score"] for one in got] == pytest.approx([score for _, score in wanted], abs=1e-4)


def test_alignment_is_there_where_there_are_weights(exported: Exported) -> None:
    """A row for each piece that is written, and each sums to 1; else the option is out of range."""
    form, version = exported
    assert ("attention" in manifest_of(version).signatures["greedy"].outputs) == form.aligned
    row = translate(model="own", texts=TEXTS[:4], alignment=True, beam_size=2)
    if not form.aligned:
        assert [reason for reason, _ in called(version, row)] == ["OPTION_OUT_OF_RANGE"] * 2
        return
    for answer, _ in called(version, row):
        for item in answer["translations"]:
            rows = np.array(item["alignment"])
            assert rows.shape == (len(item["target_tokens"]), len(item["source_tokens"]))
            assert rows.sum(axis=1) == pytest.approx(1, abs=1e-4)
