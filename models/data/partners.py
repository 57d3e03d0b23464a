"""Which target pieces a source piece may become: counted in parallel texts by the first model of IBM.

Source: Brown et al., 1993, https://aclanthology.org/J93-2003, §4; for shortlists, Jean et al., 2015,
https://arxiv.org/abs/1412.2007.
"""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
Rows = Sequence[tuple[Array, Array]]
"""Source ids (source) and target ids (time) of each pair of texts."""
ROUNDS = 5
MOST_ROWS = 100_000
"""Pairs of texts that are counted: with so many, more change little, and memory has an end."""


def commonest(rows: Rows, pieces: int, count: int) -> Array:
    """Return the target pieces that stand most often in the texts, int32 (count); fewer where fewer do."""
    written = np.bincount(np.concatenate([target for _, target in rows]), minlength=pieces)
    common: Array = np.argsort(-written, kind="stable")[: min(count, np.count_nonzero(written))]
    return common.astype(np.int32)


def partners(rows: Rows, pieces: int, count: int, filler: int) -> Array:
    """Return the likeliest target pieces of each source piece, int32 (pieces, count).

    Args:
        pieces: of the larger vocabulary.
        filler: stands where there are fewer.
    """
    sources, targets, group = _pairs(rows[:MOST_ROWS], pieces)
    keys, place = np.unique(sources * pieces + targets, return_inverse=True)
    source, target = keys // pieces, keys % pieces
    share = np.ones(len(keys))  # p(target | source)
    for _ in range(ROUNDS):
        weight = share[place]
        weight /= np.bincount(group, weight)[group]  # of the sources that a target piece may come from
        expected = np.bincount(place, weight)
        share = expected / np.bincount(source, expected)[source]
    order = np.lexsort((target, -share, source))
    source, target = source[order], target[order]
    rank = np.arange(len(source)) - np.searchsorted(source, source)
    table = np.full((pieces + 1, count), filler, np.int32)
    kept = rank < count
    table[source[kept], rank[kept]] = target[kept]
    return table[:pieces]


def _pairs(rows: Rows, nothing: int) -> tuple[Array, Array, Array]:
    """Return each source piece beside each target piece of its text, and which target piece of all it is.

    Args:
        nothing: the id of what pieces without a partner come from; in every text.
    """
    sources, targets, groups, first = [], [], [], 0
    for source, target in rows:
        given = np.append(source, nothing)
        sources.append(np.tile(given, len(target)))
        targets.append(np.repeat(target, len(given)))
        groups.append(np.repeat(np.arange(first, first + len(target)), len(given)))
        first += len(target)
    whole = [np.concatenate(parts).astype(np.int64) for parts in (sources, targets, groups)]
    return whole[0], whole[1], whole[2]
