"""Intervals set on rows that were not trained on: conformal prediction for rows that come in blocks."""

import numpy as np

CONFIDENCE = 0.95
DRAWS = 400


def conformal_bound(scores: np.ndarray, level: float, block: int) -> float:
    """Return the bound that scores of later rows stay below, with probability `level` or a little more.

    Split conformal prediction takes the quantile of the held-out scores (Lei et al., 2018,
    https://arxiv.org/abs/1604.04173), which is right on average over held-out sets. Windows overlap and weeks
    differ, so a few weeks say little: the bound is the upper confidence bound of that quantile, by the
    bootstrap over whole blocks. The coverage is then `level` or more for 95 % of the held-out sets that might
    have been drawn, as long as later rows resemble them (conditional validity: Vovk, 2012,
    https://arxiv.org/abs/1209.2673).

    Args:
        scores: (rows, …), by time; how far an observation lies outside its interval, or inside if negative.
        block: rows that are drawn together.
    """
    blocks = np.array_split(scores, max(1, round(len(scores) / block)))
    random = np.random.default_rng(1)
    quantiles = []
    for _ in range(DRAWS):
        drawn = random.integers(0, len(blocks), len(blocks))
        quantiles.append(np.quantile(np.concatenate([blocks[i].ravel() for i in drawn]), level))
    return float(np.quantile(quantiles, CONFIDENCE))
