"""What is served against what the user's own loop gives: a difference is shown, and its usual causes named.

Each cause is planted once, in the loop, and in no other way.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from seqserve.models.bring import bring
from seqserve.models.bring.load import load_contract
from seqserve.models.bring.translation import proof
from seqserve.models.bring.translation.alone import Alone
from seqserve.models.bring.translation.proof import AnswersDiffer, Expected, compare, read_expected
from seqserve.models.check.pipeline import Pipeline
from seqserve.models.config import ConfigInvalid
from seqserve.service.errors import EmptyText
from tests.models.bring.translation.forms import (
    END,
    LENGTH,
    TARGET,
    Form,
    drawn,
    gru_with_dot_attention,
    ids_of,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]
TEXTS = drawn(4, seed=4)
PADDED = f"length = {LENGTH}"
Brought = Callable[[str], tuple[Form, Alone]]


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Brought:
    """Return what brings a translator once: `masked`, `open` (neither masked nor padded), `padded`."""
    made: dict[str, tuple[Form, Alone]] = {}

    def bring_once(name: str) -> tuple[Form, Alone]:
        if name not in made:
            lines = PADDED if name == "padded" else ""
            form = gru_with_dot_attention(name == "masked", lines=lines)
            examples = '[[examples]]\nsource = "a b"\nexpected = "p"\n'
            path, contract = form.save(tmp_path_factory.mktemp(name))
            contract.write_text(contract.read_text() + examples)
            kept = cast(Any, bring(path, load_contract(contract), 1).proof)
            made[name] = form, kept.keywords["alone"]
        return made[name]

    return bring_once


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve by the translator itself: what a door adds is not looked at here."""

    async def texts(alone: Alone, sources: Sequence[str]) -> list[Any]:
        return [written.text for written in alone.translate(sources)]

    monkeypatch.setattr(proof, "served_texts", texts)


def compared(alone: Alone, *pairs: tuple[str, str]) -> dict[str, Any]:
    """Compare pairs of a source and what is expected."""
    expected = [Expected(f"line {at}", *pair) for at, pair in enumerate(pairs, 1)]
    return asyncio.run(compare(cast(Pipeline, alone), expected, alone))


def difference(alone: Alone, *pairs: tuple[str, str]) -> str:
    """Return the message where they differ."""
    with pytest.raises(AnswersDiffer) as caught:
        compared(alone, *pairs)
    return caught.value.message


def own(form: Form, change: Callable[[str], str] = str, **options: Any) -> list[tuple[str, str]]:
    """Return what the user's own loop gives, for sources that it changes."""
    return [(text, form.text(change(text), **options)) for text in TEXTS]


def test_equal_translations_are_counted(brought: Brought) -> None:
    """White space at the ends is no difference."""
    form, alone = brought("masked")
    pairs = [(source, f" {translation}\n") for source, translation in own(form)]
    assert compared(alone, *pairs) == {"compared": len(TEXTS), "equal": len(TEXTS)}


def test_a_difference_shows_the_piece_and_both_scores(brought: Brought) -> None:
    """The first piece that differs: what is expected, what is written, how likely the model finds each."""
    form, alone = brought("masked")
    (source, right), *others = own(form)
    pieces = [TARGET.index(word) for word in right.split()]
    worse = pieces[1] + 1 if pieces[1] + 1 < len(TARGET) else pieces[1] - 1
    wrong = " ".join(TARGET[i] for i in [pieces[0], worse, *pieces[2:]])
    message = difference(alone, (source, wrong), *others)
    assert message.startswith(
        f"1 of {len(TEXTS)} translations are not those of your own loop. line 1: {source!r}"
    )
    found = re.search(
        r"piece 2: '(\w)' is expected \(log p (\S+)\), the model writes '(\w)' \((\S+)\)", message
    )
    assert found is not None
    log_p = form.next_log_p(source)(pieces[:1])
    assert (found[1], found[3]) == (TARGET[worse], TARGET[pieces[1]])
    assert (float(found[2]), float(found[4])) == pytest.approx((log_p[worse], log_p[pieces[1]]), rel=1e-3)
    assert message.endswith("None of the usual causes makes them equal")


def test_an_expected_translation_that_ends_earlier(brought: Brought) -> None:
    """Of the end, too, both scores are shown."""
    form, alone = brought("masked")
    source, right = own(form)[0]
    first = right.split()[0]
    assert "piece 2: 'the end' is expected (log p " in difference(alone, (source, first), *own(form)[1:3])


def test_ties_are_no_difference(brought: Brought, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pieces that are as likely may change places on another device."""
    form, alone = brought("masked")
    monkeypatch.setattr(proof, "TIE", 100.0)
    (source, right), *others = own(form)
    counts = compared(alone, (source, right + " p"), *others)
    assert counts == {"compared": len(TEXTS), "equal": len(TEXTS) - 1, "ties": 1}


def test_a_source_that_is_refused(brought: Brought, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line and the reason are shown."""
    _, alone = brought("masked")

    async def refuse(_: Alone, sources: Sequence[str]) -> list[Any]:
        return [EmptyText("no pieces") for _ in sources]

    monkeypatch.setattr(proof, "served_texts", refuse)
    assert difference(alone, ("?", "p")) == "line 1: '?' is refused: no pieces"


def explanation(alone: Alone, pairs: Sequence[tuple[str, str]]) -> str:
    """Return what is named as the cause."""
    message = difference(alone, *pairs)
    assert ". They are equal with " in message, message
    return message.rpartition(". They are equal with ")[2]


def test_another_start(brought: Brought) -> None:
    """The loop begins with the end mark."""
    form, alone = brought("masked")
    assert explanation(alone, own(form, start=END)) == f"target.start = {END}"


@pytest.mark.parametrize("marked", ["{} [END]", "[START] {} [END]"])
def test_marks_that_are_counted(marked: str, brought: Brought) -> None:
    """The loop keeps the end, or both marks."""
    form, alone = brought("masked")
    pairs = [(source, marked.format(translation)) for source, translation in own(form)]
    assert explanation(alone, pairs) == "the end (or start) mark taken off the expected translations"


def test_another_limit(brought: Brought) -> None:
    """The loop stops a word earlier: the last word is none of the marks."""
    form, alone = brought("masked")
    pairs = [(s, " ".join(t.split()[:-1])) for s, t in own(form) if len(t.split()) > 1]
    assert explanation(alone, pairs).startswith("another length limit (target.length)")


def test_a_reversed_source(brought: Brought) -> None:
    """The loop gives the source from its end."""
    form, alone = brought("masked")
    pairs = own(form, lambda text: " ".join(reversed(text.split())))
    assert explanation(alone, pairs) == "source.reverse = true"


def test_lower_casing(brought: Brought) -> None:
    """Of the source in the loop, and of the translation after it."""
    form, alone = brought("masked")
    pairs = [(source.upper(), translation) for source, translation in own(form)]
    assert explanation(alone, pairs).startswith("lower-cased sources: a step of the source (lower)")
    pairs = [(source, translation.upper()) for source, translation in own(form)]
    assert explanation(alone, pairs) == "lower-casing: they differ in case alone"
    assert "is expected (log p" not in difference(alone, *pairs)


@pytest.mark.parametrize(
    ("side", "cause"),
    [
        ("post", "source.length = 9: in your loop padding is not masked"),
        ("pre", 'source.length = 9: in your loop padding is not masked, padding = "left"'),
    ],
)
def test_padding_that_the_contract_does_not_know(side: str, cause: str, brought: Brought) -> None:
    """The loop pads to a length, on either side, and the model does not mask it."""
    _, alone = brought("open")
    form = gru_with_dot_attention(mask=False, source=lambda text: ids_of(text, 9, side))
    assert explanation(alone, own(form)) == cause


def test_padding_on_the_other_side(brought: Brought) -> None:
    """The contract says right, as is usual; `pad_sequences` pads on the left."""
    _, alone = brought("padded")
    form = gru_with_dot_attention(mask=False, source=lambda text: ids_of(text, LENGTH, "pre"))
    assert explanation(alone, own(form)) == 'source.padding = "left"'


def test_padding_that_the_loop_does_not_have(brought: Brought) -> None:
    """The contract has a length, and the loop gives each text as it is."""
    form, alone = brought("padded")
    cause = "no source.length: your loop does not pad, or masks padding"
    assert explanation(alone, own(form)) == cause


def test_a_source_that_is_padded_and_then_reversed(brought: Brought) -> None:
    """As `row[::-1]` of a padded row: the padding comes first."""
    _, alone = brought("padded")
    form = gru_with_dot_attention(mask=False, source=lambda text: ids_of(text, LENGTH)[:, ::-1])
    assert explanation(alone, own(form)) == 'source.reverse = true, source.padding = "left"'


def test_a_wrong_translation_stops_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole served path; no version is written."""
    monkeypatch.undo()
    form = gru_with_dot_attention()
    source = TEXTS[0]
    wrong = " ".join(reversed(form.text(source).split())) + " q"
    expect = tmp_path / "expected.jsonl"
    expect.write_text(f'{{"source": "{source}", "translation": "{wrong}"}}\n')
    with pytest.raises(AnswersDiffer, match=r"expected\.jsonl line 1: .* is expected \(log p "):
        form.export(tmp_path, expect=expect)
    assert not list((tmp_path / "models").glob("own/*"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", 'line 2 is no {"source": "…", "translation": "…"}'),
        ('{"source": "a"}', 'line 2 is no {"source": "…", "translation": "…"}'),
        ('["a", "b"]', 'line 2 is no {"source": "…", "translation": "…"}'),
        ('{"source": "", "translation": "p"}', "line 2: source"),
    ],
)
def test_a_line_that_is_no_translation(line: str, message: str, tmp_path: Path) -> None:
    """Its number is shown, and what is expected."""
    file = tmp_path / "expected.jsonl"
    file.write_text(f'{{"source": "a", "translation": "p"}}\n{line}\n')
    with pytest.raises(ConfigInvalid) as caught:
        read_expected((), file)
    assert message in caught.value.message
    with pytest.raises(ConfigInvalid, match="No such file"):
        read_expected((), tmp_path / "other.jsonl")
