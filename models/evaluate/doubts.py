"""How often a translation model's warnings are false, and how many planted faults they find.

`python -m seqserve.models.evaluate.doubts VERSION [--data FOLDER]` prints a table; the thresholds of
`service.core.doubts` are chosen by it. Everything goes through the pipeline that serves.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from seqserve.models.check.pipeline import Pipeline, pipeline
from seqserve.models.config import ConfigInvalid, TranslationConfig, read_config
from seqserve.models.data.texts import Pair
from seqserve.models.evaluate.requests import chunks, run
from seqserve.models.evaluate.translation import held_out
from seqserve.service.contract.items import TranslateBody, Translation
from seqserve.service.contract.padding import Array
from seqserve.service.core.doubts import HIGH_UNKNOWN, LOW_COVERAGE, REPETITION
from seqserve.service.core.types import BatchOptions, Codec, Encoded, Outputs, Plan

SCRIPTS = {"Cyrillic": 0x430, "Greek": 0x3B1, "Hebrew": 0x5D0, "Devanagari": 0x905, "Han": 0x4E00}
"""Where the letters a to z are put to make a text foreign."""
BEAMS = 4
MOST_JOINED = 500
OF_STEPS = ("ids", "attended", "attention")
"""The outputs of a translator that have a value for each of its steps."""
LEFT_OUT, SHORTER, KEPT = 0.5, 0.8, 0.75
"""A joint translation leaves a text out where it has less than this share of the words of that text's own
translation, and is shorter than this share of both. It keeps both where it has this share of each's
words."""

Shares = dict[str, float | int]


async def measure_doubts(loaded: Pipeline, pairs: Sequence[Pair], beams: int) -> Shares:
    """Return the share of held-out texts with each warning, and the share found of each planted fault.

    Planted are: every letter put into another script; two texts joined, by a space and by a line break, of
    which those count whose translation leaves one out; and in the outputs of the model a stretch of pieces
    that stands three to six times in a row, with the places attended to.
    """
    texts = [pair.source for pair in pairs]
    plain = await _translate(loaded, texts, beams)
    shares: Shares = {f"{name} on held-out texts": _share(plain, name) for name in _WARNINGS}
    for script, first in SCRIPTS.items():
        foreign = [in_script(text, first) for text in texts if any(map(str.isalpha, text))]
        answers = await _translate(loaded, foreign, beams)
        shares[f"{HIGH_UNKNOWN} in {script}"] = _share(answers, HIGH_UNKNOWN)
    for joint, named in ((" ", "joined by a space"), ("\n", "joined by a line break")):
        shares |= await _joined(loaded, dict(zip(texts, plain, strict=True)), joint, named, beams)
    looping = replace(loaded, served=replace(loaded.served, codec=_Looping(loaded.served.codec)))
    looped = await _translate(looping, texts, beams)
    return {**shares, f"{REPETITION} of planted loops": _share(looped, REPETITION)}


_WARNINGS = (HIGH_UNKNOWN, REPETITION, LOW_COVERAGE)


async def _translate(loaded: Pipeline, texts: Sequence[str], beams: int) -> list[Translation | None]:
    """Return each text's translation, None where the model refuses it."""
    answers: list[Translation | None] = []
    for chunk in chunks(texts):
        body = TranslateBody(texts=list(chunk), beam_size=beams)
        answers += [item if isinstance(item, Translation) else None for item in await run(loaded, body)]
    return answers


def _share(answers: Sequence[Translation | None], warning: str) -> float:
    given = [answer for answer in answers if answer is not None]
    return sum(warning in answer.warnings for answer in given) / max(1, len(given))


def in_script(text: str, first: int) -> str:
    """Return the text with the 26 letters exchanged for those from a code point on."""
    letters = (ord(letter.lower()) - ord("a") for letter in text)
    return "".join(
        chr(first + place) if 0 <= place < 26 else letter for letter, place in zip(text, letters, strict=True)
    )


async def _joined(
    loaded: Pipeline, alone: Mapping[str, Translation | None], joint: str, named: str, beams: int
) -> Shares:
    """Measure LOW_COVERAGE on pairs of texts, by what their translation has of the translations of each."""
    firsts = [text for text, answer in alone.items() if answer is not None][:MOST_JOINED]
    seconds = random.Random(1).sample(firsts, len(firsts))
    answers = await _translate(
        loaded, [joint.join(pair) for pair in zip(firsts, seconds, strict=True)], beams
    )
    found: dict[str, list[Translation]] = {"one left out": [], "both there": []}
    for first, second, answer in zip(firsts, seconds, answers, strict=True):
        parts = [part.text for part in (alone[first], alone[second]) if part is not None]
        became = None if answer is None else fate(answer.text, parts)
        if answer is not None and became is not None:
            found[became].append(answer)
    return {
        f"{what}, {named}, {became}": value
        for became, group in found.items()
        for what, value in (("texts", len(group)), (LOW_COVERAGE, _share(group, LOW_COVERAGE)))
    }


def fate(text: str, parts: Sequence[str]) -> str | None:
    """Say what became of two texts in their joint translation; None where it is neither."""
    kept = min(_recall(part, text) for part in parts)
    length = len(text) / max(1, sum(map(len, parts)))
    if kept < LEFT_OUT and length < SHORTER:
        return "one left out"
    return "both there" if kept >= KEPT else None


def _recall(wanted: str, text: str) -> float:
    words = Counter(wanted.split())
    return (words & Counter(text.split())).total() / max(1, words.total())


# --- planted loops ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Looping:
    """A version's codec, to whose model's outputs loops are added."""

    codec: Codec

    def plan(self, body: Any) -> Plan:
        """Return the plan that plants them."""
        return _LoopingPlan(self.codec.plan(body), random.Random(1))


@dataclass(frozen=True, slots=True)
class _LoopingPlan:
    plan: Plan
    random: random.Random

    @property
    def signature(self) -> str:
        return self.plan.signature

    @property
    def batch_options(self) -> BatchOptions:
        return self.plan.batch_options

    @property
    def items(self) -> Sequence[Any]:
        return self.plan.items

    def encode(self, item: Any) -> Encoded:
        return self.plan.encode(item)

    def decode(self, encoded: Encoded, outputs: Outputs) -> Any:
        return self.plan.decode(encoded, with_loop(outputs, self.random))


def with_loop(outputs: Outputs, draw: random.Random) -> Outputs:
    """Repeat a stretch of the best hypothesis, the end id not among it, two to five times more."""
    pieces = max(1, int(outputs["lengths"][0]) - 1)
    begin = draw.randrange(pieces)
    end = draw.randrange(begin, pieces) + 1
    copies = draw.randint(2, 5)
    steps = [*range(end), *[*range(begin, end)] * copies, *range(end, pieces + 1)]
    of_steps = [name for name in OF_STEPS if name in outputs and outputs[name].shape[1]]
    planted: dict[str, Array] = {name: outputs[name][:1, steps] for name in of_steps}
    return {**outputs, **planted, "lengths": np.array([len(steps)]), "scores": outputs["scores"][:1]}


# --- the command --------------------------------------------------------------------------------


async def _measured(folder: Path, data: Path | None) -> dict[str, Shares]:
    async with pipeline(folder) as loaded:
        card = loaded.served.manifest.card or {}
        config = read_config(card.get("config", {}), str(folder))
        if not isinstance(config, TranslationConfig):
            raise ConfigInvalid(f"{folder}: task is {config.task}, not translation")
        pairs = held_out(config, data)
        ways: Mapping[str, int] = {"greedy": 1, "beams": BEAMS}
        return {name: await measure_doubts(loaded, pairs, beams) for name, beams in ways.items()}


def main(folder: Path, data: Annotated[Path | None, typer.Option()] = None) -> None:
    """Print the table of a version."""
    measured = asyncio.run(_measured(folder, data))
    for what in measured["greedy"]:
        row = (f"{way} {_shown(shares[what]):9}" for way, shares in measured.items())
        typer.echo(f"{what:60}" + "".join(row))


def _shown(value: float | int) -> str:
    return f"{value:.2%}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    typer.run(main)
