"""Quality of translations: sacreBLEU (Post, 2018, https://arxiv.org/abs/1804.08771) and chrF.

Called by `models.evaluate` for translation models.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from models.check import Pipeline
from models.config import TranslationConfig
from models.data import Pair
from models.evaluate.figures import DRAWS, Figure, Figures, mean
from models.evaluate.run import chunks, run
from models.recipes.translation import read_texts
from service.contract.items import TranslateBody, Translation

REFUSED = ""


def texts_to_measure(config: TranslationConfig, data: Path | None) -> list[Pair]:
    """Return the folder's `test` texts if it has them, else its `val` texts; or generated ones."""
    has_test = data is None or any(data.glob(f"test.{config.data.source}*"))
    return read_texts(config.data, data, "test" if has_test else "val")


async def measure_texts(loaded: Pipeline, pairs: Sequence[Pair]) -> Figures:
    """Translate greedily; BLEU (13a; cased and lowercased), chrF, and the share that is exact."""
    got: list[str] = []
    for chunk in chunks(pairs):
        body = TranslateBody(texts=[pair.source for pair in chunk])
        got += [item.text if isinstance(item, Translation) else REFUSED for item in await run(loaded, body)]
    wanted = [[pair.target for pair in pairs]]
    return {
        "texts": len(pairs),
        "exact_match": mean([text == pair.target for text, pair in zip(got, pairs, strict=True)]),
        "bleu": _corpus(BLEU(), got, wanted),
        "bleu_lowercase": _corpus(BLEU(lowercase=True), got, wanted),
        "chrf": _corpus(CHRF(), got, wanted),
        "beam_size": 1,
        "refused": got.count(REFUSED),
    }


def _corpus(metric: Any, got: Sequence[str], wanted: list[list[str]]) -> Figure:
    """Score with sacreBLEU's own bootstrap (Koehn, 2004, https://aclanthology.org/W04-3250)."""
    score = metric.corpus_score(got, wanted, n_bootstrap=DRAWS)
    told = json.loads(score.format(is_json=True, signature=str(metric.get_signature())))
    # both are left out where the score is 0
    middle, half = told.get("confidence_mean", score.score), told.get("confidence_var", 0.0)
    return Figure(score.score, middle - half, middle + half)
