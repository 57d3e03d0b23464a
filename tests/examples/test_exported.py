"""The translators of docs/bring.md, exported and served: answers are those of the scripts' own loops."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from seqserve.models.bring import bring
from seqserve.models.bring.load import load_contract
from seqserve.models.bring.translation.alone import Alone
from tests.doors import Both, both_doors, translate
from tests.models.networks.test_decoding import SPECIAL, NextLogP, beam_reference
from tests.tfserving.reload import ModelServer
from tests.translators import FOLDER, STYLES, Style, expected

ITEMS = 8
PATIENT = {"default_timeout": 300.0}  # a machine may be busy, and a request that would be late is refused
BEAMS, PENALTY = 3, 0.6
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedded(translators: Path) -> AsyncIterator[Both]:
    """One service of all of them: to load them costs more than to ask them."""
    async with both_doors(translators, **PATIENT) as both:
        yield both


async def test_many_callers_get_what_the_scripts_loops_give(
    translators: Path, embedded: Both, model_server: ModelServer
) -> None:
    """200 texts of each, of mixed lengths, over both backends, at both doors at once: batched together."""
    wrong: dict[str, list[Any]] = {}
    async with both_doors(translators, model_server, **PATIENT) as served:
        for style in STYLES:
            pairs = expected(translators, style)
            assert len(pairs) == 200
            calls = [
                call(both, style, pairs[at : at + ITEMS], door)
                for at in range(0, len(pairs), ITEMS)
                for both in (embedded, served)
                for door in ("rest", "grpc")
            ]
            faults = [fault for some in await asyncio.gather(*calls) for fault in some]
            wrong |= {style.name: faults[:3]} if faults else {}
    assert not wrong


async def call(both: Both, style: Style, pairs: list[tuple[str, str]], door: str) -> list[Any]:
    """Return where one call's translations are not as expected."""
    row = translate(model=style.name, texts=[source for source, _ in pairs])
    answer, _ = await (both.by_rest(row) if door == "rest" else both.by_grpc(row))
    if isinstance(answer, str):
        return [(door, answer)]
    got = [item.get("text", item) for item in answer["translations"]]
    return [
        (door, source, text, wanted)
        for (source, wanted), text in zip(pairs, got, strict=True)
        if text != wanted.strip()
    ]


@pytest.mark.parametrize("style", STYLES[:3], ids=lambda style: style.script)
async def test_beams_are_the_slow_reference(
    style: Style, translators: Path, embedded: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All hypotheses with their scores, searched by the same step of the user's own model."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(FOLDER.parents[1])
    alone = brought_alone(style, translators, tmp_path)
    texts, limit = [source for source, _ in expected(translators, style)[:2]], 6
    options = {"beam_size": BEAMS, "n_best": BEAMS, "length_penalty": PENALTY, "max_length": limit}
    answer, _ = await embedded.by_rest(translate(model=style.name, texts=texts, **options))
    for text, item in zip(texts, answer["translations"], strict=True):
        wanted = beam_reference(as_reference(alone, text), BEAMS, limit, PENALTY)
        got = [item, *item["alternatives"]]
        assert [one["score"] for one in got] == pytest.approx([score for _, score in wanted], abs=1e-4)
        assert [one["text"] for one in got] == [written(alone, ids) for ids, _ in wanted]


def brought_alone(style: Style, translators: Path, build: Path) -> Alone:
    """Return what export runs outside of the served path: the user's own step, read by the contract."""
    (build / style.script).symlink_to(translators / style.name / "trained")
    model, *options = style.command("seqserve export", build)
    given = dict(zip(options[::2], options[1::2], strict=True))
    imports = [Path(given["--import"])] if "--import" in given else []
    brought = bring(
        Path(model), load_contract(Path(given["--contract"])), 1, imports, Path(given["--expect"])
    )
    assert isinstance(brought.proof, partial)
    alone: Alone = brought.proof.keywords["alone"]
    return alone


def swapped(alone: Alone, ids: Sequence[int]) -> list[int]:
    """Exchange the translator's end with the reference's, either way."""
    ends = {alone.target.special.end: SPECIAL.end, SPECIAL.end: alone.target.special.end}
    return [int(ends.get(i, i) or 0) for i in ids]


def as_reference(alone: Alone, text: str) -> NextLogP:
    """Return log p of each next piece, the end where the reference has it."""

    def of(ids: list[int]) -> list[float]:
        log_p = alone.log_p(text, swapped(alone, ids))
        return [float(x) for x in log_p[swapped(alone, range(len(log_p)))]]

    return of


def written(alone: Alone, ids: Sequence[int]) -> str:
    """Return the text of a hypothesis of the reference."""
    return alone.target.vocabulary.decode(swapped(alone, ids)).strip()


async def test_the_calls_of_the_page_are_answered(embedded: Both) -> None:
    """Each curl as it stands there, with an answer for each text."""
    for style in STYLES:
        path, body = style.call()
        response = await embedded.rest.post(path, json=body)
        assert response.status_code == 200, response.text
        items = response.json()["translations"]
        answered = [sorted({"text", "error"} & item.keys()) for item in items]
        assert answered == [["text"]] * len(body["texts"])
