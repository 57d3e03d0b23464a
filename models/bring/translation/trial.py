"""What export learns of a user's translator by trying it: how its numbers are read, and faults."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.pairs import width_advice
from seqserve.models.bring.translation.steps import Reading, Steps, backwards, over_source
from seqserve.models.bring.translation.vocabularies import Read
from seqserve.models.config import ConfigInvalid, in_short
from seqserve.service.contract.padding import Array

STEPS = 5
"""Pieces that a trial writes for each text."""
SUMS_TO_ONE = 1e-3
SAME = 1e-4
"""Of scores, absolutely and relatively: a layer run once over all steps adds up in another order."""


@dataclass(slots=True)
class _Noted:
    """What the translator has answered so far."""

    scores: list[Array] = field(default_factory=list)  # each (pieces)
    sums: dict[str, list[float]] = field(
        default_factory=dict
    )  # of weights over real places; NaN: other shape


def try_steps(
    steps: Steps, contract: TranslationContract, source: Read, target: Read, rows: Sequence[Array]
) -> tuple[Reading, list[str]]:
    """Write some pieces for each row, and compare with the model as it was trained, where there is one.

    Args:
        rows: ids (source), each as it is sent alone.

    Returns:
        How the numbers are read, and what the user should know.

    Raises:
        ConfigInvalid: the model fails, or its numbers are not what the contract says.
    """
    noted = _Noted()
    pad, left = source.special.pad, contract.source.padding == "left"
    for row in rows:
        given = tf.constant(row[None], tf.int32)
        if contract.source.reverse:
            given = tf.gather(given, backwards(given, pad, left), batch_dims=1)
        written = _written(steps, given, _real(row, pad, left), target, noted)
        if steps.taught is not None:
            _compare(steps, given, [target.special.start or 0, *written][: steps.longest])
    probabilities = _are_probabilities(contract, noted.scores)
    weights, notes = _weights(contract, noted.sums)
    reverse = contract.source.reverse
    return Reading(pad, reverse, reverse and left, probabilities, weights), notes


def _written(steps: Steps, ids: tf.Tensor, real: Array, target: Read, noted: _Noted) -> list[int]:
    """Write greedily, but no padding: some layers take such a word for none; returns the pieces."""
    state, memory = _run("encoder", steps.encode, ids)
    written: list[int] = []
    last = target.special.start or 0
    for _ in range(STEPS):
        scores, new, weights = _run("decoder", steps.advance, tf.constant([last]), state, memory)
        noted.scores.append(_scores(scores, target.vocabulary.size))
        _check_state(state, new)
        state = new
        _note_sums(weights, real, noted.sums)
        best = noted.scores[-1].argsort()[::-1]
        last = int(best[best != target.special.pad][0])
        written.append(last)
    return written


def _real(row: Array, pad: int, left: bool) -> Array:
    """Return where a row has its text, in which pieces may be the padding's: bool (source)."""
    text, places = np.flatnonzero(row != pad), np.arange(len(row))
    if not len(text):
        return np.ones(len(row), bool)
    return np.asarray(places >= text[0] if left else places <= text[-1])


def _run(part: str, function: Any, *given: Any) -> Any:
    try:
        return function(*given)
    except ConfigInvalid:
        raise
    except Exception as error:  # whatever the user's own code raises
        reason = f"{type(error).__name__}: {in_short(error)}"
        ids = given[0].numpy().tolist()
        raise ConfigInvalid(f"{part}: the model fails on ids {ids}: {reason}") from error


def _scores(scores: Any, pieces: int) -> Array:
    values = np.asarray(scores)
    if values.ndim not in (2, 3) or values.shape[0] != 1:
        raise ConfigInvalid(
            f"decoder: scores (batch, pieces) or (batch, 1, pieces) are expected, it gives {values.shape}"
        )
    if values.shape[-1] != pieces:
        raise ConfigInvalid(
            f"target: the vocabulary has {pieces} entries, the decoder {values.shape[-1]} scores; "
            f"{width_advice(pieces, values.shape[-1])}"
        )
    if not np.isfinite(values).all():
        raise ConfigInvalid("decoder: its scores are not finite: are its weights those of training?")
    return np.asarray(values.reshape(-1, pieces)[-1], np.float64)


def _check_state(state: Any, new: Any) -> None:
    """Refuse a state that comes back in another form: it could not be given to the next step."""
    before, after = (_form(nest) for nest in (state, new))
    if before != after:
        raise ConfigInvalid(
            f"decoder: the state goes in as {before} and comes back as {after}: return it in the form in "
            "which it is taken (a recurrent layer gives it with return_state=True)"
        )


def _form(nest: Any) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in map(tf.convert_to_tensor, tf.nest.flatten(nest))]


def _note_sums(weights: Mapping[str, tf.Tensor], real: Array, sums: dict[str, list[float]]) -> None:
    for name, values in weights.items():
        found = np.asarray(over_source(tf.convert_to_tensor(values)))
        fits = found.shape == (1, len(real)) and np.isfinite(found).all()
        sums.setdefault(name, []).append(float(found[0][real].sum()) if fits else np.nan)


def _are_probabilities(contract: TranslationContract, scores: Iterable[Array]) -> bool:
    """Say whether the scores are probabilities: none below 0, and each row sums to 1."""
    applied = all((row >= 0).all() and abs(row.sum() - 1) < SUMS_TO_ONE for row in scores)
    said = contract.decoder.scores
    if said is not None and applied != (said == "probabilities"):
        found = "sum to 1 in each step" if applied else "do not sum to 1"
        raise ConfigInvalid(f"decoder.scores: {said!r}, but the scores {found}; leave it out")
    return applied


def _weights(contract: TranslationContract, sums: Mapping[str, list[float]]) -> tuple[str | None, list[str]]:
    """Return the name of the weights that are an alignment, and a note where there are none."""
    fitting = [name for name, values in sums.items() if np.abs(np.array(values) - 1).max() < SUMS_TO_ONE]
    named = contract.decoder.outputs.weights
    if isinstance(named, str) and named not in sums:
        known = ", ".join(map(repr, sums)) or "none"
        raise ConfigInvalid(f"decoder.outputs.weights: {named!r} gives no weights (those that do: {known})")
    wanted = [name for name in fitting if named in (None, name) or isinstance(named, int)]
    if wanted:
        return wanted[-1], []
    shaped = {name: values for name, values in sums.items() if not np.isnan(values).any()}
    if not shaped:
        return None, ["alignment: none, as the decoder gives no weights over the source"]
    name, values = next(iter(shaped.items()))
    return None, [
        f"alignment: none, as the weights of {name!r} sum to {min(values):.3g} to {max(values):.3g} over the "
        "real places of a source, not to 1: part of them lies on padding, or they are no softmax"
    ]


def _compare(steps: Steps, ids: tf.Tensor, words: list[int]) -> None:
    """Refuse a model that scores a target otherwise step by step than as a whole."""
    assert steps.taught is not None
    wanted = np.asarray(_run("decoder", steps.taught, ids, tf.constant([words], tf.int32)))[0]
    wanted = wanted.reshape(-1, wanted.shape[-1])  # (time, pieces), or (1, pieces) of the last word alone
    first = len(words) - len(wanted)
    state, memory = steps.encode(ids)
    for place, word in enumerate(words):
        scores, state, _ = steps.advance(tf.constant([word]), state, memory)
        got = np.asarray(scores).reshape(-1, wanted.shape[-1])[-1]
        if place >= first and not np.allclose(got, wanted[place - first], rtol=SAME, atol=SAME):
            off = float(np.abs(got - wanted[place - first]).max())
            raise ConfigInvalid(
                f"decoder: at piece {place + 1} of a translation the scores are off by {off:.3g} from those "
                "that the model gives for the whole target so far: a layer on the target's side reads more "
                "than the last piece and the recurrent state (self-attention, a convolution, pooling). Such "
                "a model needs all it has written in every step, which is not served"
            )
