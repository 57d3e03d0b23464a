"""Quality of translations: sacreBLEU (Post, 2018, https://arxiv.org/abs/1804.08771) and chrF."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.config import TranslationConfig
from seqserve.models.data.texts import Pair
from seqserve.models.evaluate import plots
from seqserve.models.evaluate.figures import DRAWS, Figure, Figures, Measured, Pictures, mean
from seqserve.models.evaluate.requests import chunks, run
from seqserve.models.recipes.translation import read_texts
from seqserve.service.contract.items import TranslateBody, Translation

BEAMS = 5


def held_out(config: TranslationConfig, data: Path | None) -> list[Pair]:
    """Return the validation texts."""
    return read_texts(config.data, data, "val")


def to_measure(config: TranslationConfig, data: Path | None, card: Mapping[str, Any]) -> list[Pair]:
    """Return the folder's `test` texts if it has them, else its `val` texts; or generated ones."""
    has_test = data is None or any(data.glob(f"test.{config.data.source}*"))
    return read_texts(config.data, data, "test" if has_test else "val")


async def measure(loaded: Pipeline, config: TranslationConfig, pairs: Sequence[Pair]) -> Measured:
    """Translate by beams, if the model has them, and greedily: BLEU, chrF, and the share of exact matches.

    BLEU is cased (13a) and lowercased. The main figures are by as many beams as the model has, up to 5, which
    `beam_size` records; the `greedy_` ones are for comparison. Signatures say exactly what was computed.
    """
    decode = loaded.served.manifest.decode
    assert decode is not None  # a translation manifest without it does not load
    beams = min(BEAMS, decode.max_beams) if "beam" in decode.signatures else 1
    answers = await _translate(loaded, pairs, beams)
    got = [text or "" for text in answers]
    greedy = got if beams == 1 else [text or "" for text in await _translate(loaded, pairs, 1)]
    wanted = [[pair.target for pair in pairs]]
    figures: Figures = {
        "texts": len(pairs),
        "exact_match": mean([text == pair.target for text, pair in zip(got, pairs, strict=True)]),
        **corpus_figures("bleu", BLEU(), got, wanted),
        **corpus_figures("bleu_lowercase", BLEU(lowercase=True), got, wanted),
        **corpus_figures("chrf", Chrf(), got, wanted),
        "beam_size": beams,
        **{
            f"greedy_{name}": corpus_figures(name, metric, greedy, wanted)[name]
            for name, metric in (("bleu", BLEU()), ("bleu_lowercase", BLEU(lowercase=True)))
        },
        "refused": answers.count(None),
    }
    return Measured(figures, await _attention(loaded, pairs, got))


async def _attention(loaded: Pipeline, pairs: Sequence[Pair], got: Sequence[str]) -> Pictures:
    """Offer the attention of a translated text of medium length."""
    translated = [pair.source for pair, text in zip(pairs, got, strict=True) if text]
    if not translated:
        return {}
    text = sorted(translated, key=len)[len(translated) // 2]
    (answer,) = await run(loaded, TranslateBody(texts=[text], alignment=True))
    assert isinstance(answer, Translation)  # it was translated before
    return {"attention": partial(plots.attention, answer)}


class Chrf(CHRF):
    """sacreBLEU's chrF, whose bootstrap mixes float and np.float32 where nothing matches, and fails."""

    def _compute_score_from_stats(self, statistics: list[int]) -> Any:
        score = super()._compute_score_from_stats(statistics)
        score.score = float(score.score)
        return score


async def _translate(loaded: Pipeline, pairs: Sequence[Pair], beams: int) -> list[str | None]:
    """Return each text's translation; None where the model refuses it."""
    got: list[str | None] = []
    for chunk in chunks(pairs):
        body = TranslateBody(texts=[pair.source for pair in chunk], beam_size=beams)
        got += [item.text if isinstance(item, Translation) else None for item in await run(loaded, body)]
    return got


def corpus_figures(
    name: str, metric: Any, got: Sequence[str], wanted: list[list[str]]
) -> dict[str, Figure | str]:
    """Score with sacreBLEU's own bootstrap (Koehn, 2004, https://aclanthology.org/W04-3250)."""
    score = metric.corpus_score(got, wanted, n_bootstrap=DRAWS)
    signature = str(metric.get_signature())
    given = json.loads(score.format(is_json=True, signature=signature))
    # both are left out where the score is 0
    middle, half = given.get("confidence_mean", score.score), given.get("confidence_var", 0.0)
    return {name: Figure(score.score, middle - half, middle + half), f"{name}_signature": signature}
