"""What export learns of a model by trying it: clear examples, and faults."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqserve.models.bring.trial_inputs import Sent, made_up, words_of
from seqserve.models.config import ConfigInvalid, in_short
from seqserve.models.draft import margin
from seqserve.service.contract.features import NO_FILES, Files, SequenceEncoder
from seqserve.service.contract.heads import sigmoid_probabilities, softmax_probabilities
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Categories,
    Head,
    Manifest,
    Numeric,
    Sigmoid,
    Softmax,
    has_steps,
)
from seqserve.service.contract.padding import Array, Row, pad_batch, real_steps
from seqserve.service.contract.texts import TextHead

LONGEST = 40
NEAR_TIES = 3
CLEAR = 0.02
"""The margin of probability that an example should have: four times the tolerance of a GPU."""
Function = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trial:
    """Sequences whose answers are clear, and others whose answers are near a tie: there small faults show."""

    clear: list[Sent]
    unclear: list[Sent]
    warnings: list[str]


def try_model(
    manifest: Manifest, function: Function, given: Iterable[Sent] = (), files: Files = NO_FILES
) -> Trial:
    """Run the model on made-up sequences of three lengths, and keep of each length the clearest of 32.

    Near a tie another device could answer otherwise; where no sequence is clear, a warning says so, unless
    examples are given. Given examples are tried too, but made-up ones try every label and many values.

    Raises:
        ConfigInvalid: the model fails on a sequence that the contract allows, or its scores are not what the
            contract says.
    """
    random = np.random.default_rng(0)
    encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE, files)
    given = list(given)
    words = words_of(manifest, encoder, given)
    least = manifest.limits.sequence_least or 1
    limits = (manifest.limits.sequence_steps, manifest.limits.text_pieces)
    most = max(least, min([LONGEST, *(limit for limit in limits if limit is not None)]))
    clear, unclear, best_margins, answered = [], [], [], dict[str, list[Array]]()
    for length in sorted({max(least, most // 8), max(least, most // 2), most}):
        sequences = list(made_up(manifest, encoder, length, random, words))
        rows = [row for _, row in sequences]
        outputs = _noted(run(manifest, function, rows), answered)
        margins = [
            _margin(manifest, {n: v[at] for n, v in outputs.items()}, rows[at]) for at in range(len(rows))
        ]
        order = np.argsort(margins, kind="stable")
        clear.append(sequences[int(order[-1])][0])
        unclear += [sequences[int(place)][0] for place in order[:NEAR_TIES]]
        best_margins.append(max(margins))
    steps = [name for name in manifest.stepped if isinstance(clear[0][name], list)]
    first = {n: values[:least] if n in steps else values for n, values in clear[0].items()}
    _try_lengths(manifest, function, [encoder.encode(first).row, rows[-1]])
    for sequence in given:
        _noted(run(manifest, function, [encoder.encode(sequence).row]), answered)
    _try_unknown(manifest, function, encoder, clear[-1])
    _check_scores(manifest.heads, answered)
    return Trial(clear, unclear, [] if given else _unclear_warning(min(best_margins)))


def _unclear_warning(least: float) -> list[str]:
    if least >= CLEAR:
        return []
    return [f"examples: the clearest drawn has a margin of {least:.3g}; give [[examples]] of real ones"]


def _try_unknown(manifest: Manifest, function: Function, encoder: SequenceEncoder, sent: Sent) -> None:
    """Try a label that the model does not know, where the contract maps such labels to an id."""
    for name, feature in manifest.features.items():
        if isinstance(feature, Categories) and feature.unknown == "map":
            strange = "?" * (1 + max(map(len, feature.labels)))
            values = [strange, *sent[name][1:]] if has_steps(feature) else strange
            run(manifest, function, [encoder.encode({**sent, name: values}).row])


def _try_lengths(manifest: Manifest, function: Function, rows: list[Row]) -> None:
    """Run each row unpadded, and all that fit padded to every bucket."""
    for row in rows:
        run(manifest, function, [row])
    for bucket in manifest.buckets:
        fitting = [row for row in rows if row.length <= bucket]
        if fitting:
            run(manifest, function, fitting, bucket)


def _noted(outputs: dict[str, Array], answered: dict[str, list[Array]]) -> dict[str, Array]:
    """Return the outputs, and add them to what the model has answered so far."""
    for name, values in outputs.items():
        answered.setdefault(name, []).append(values.reshape(-1, *values.shape[-1:]))
    return outputs


def run(
    manifest: Manifest, function: Function, rows: list[Row], length: int | None = None
) -> dict[str, Array]:
    """Return the model's own outputs for rows, padded to the longest unless a length is given or fixed."""
    longest = max(row.length for row in rows)
    alone = manifest.buckets[0] if len(manifest.buckets) == 1 else longest
    length = length or alone
    inputs = pad_batch(rows, length, manifest.signatures[PREDICT_SIGNATURE], manifest)
    padded = f" padded to {length}" if length > longest else ""
    try:
        outputs = {name: np.asarray(value) for name, value in function(**inputs).items()}
    except Exception as error:  # whatever a layer says of values or shapes that it does not take
        reason = in_short(error)
        raise ConfigInvalid(
            f"features: the model fails on a sequence of {longest} steps{padded} that the contract "
            f"allows (labels, first_id, unknown_id, width, buckets): {reason}"
        ) from error
    _check_steps(manifest, outputs, length)
    _check_widths(manifest, outputs)
    return outputs


def check_one_bucket(manifest: Manifest, function: Function, rows: Iterable[Row], tolerance: float) -> None:
    """Refuse the one bucket of an open time axis where padding to it changes an answer.

    Raises:
        ConfigInvalid: naming the head and by how much.
    """
    (bucket,) = manifest.buckets
    for row in rows:
        padded, alone = run(manifest, function, [row]), run(manifest, function, [row], row.length)
        for name, head in manifest.heads.items():
            if isinstance(head, TextHead):
                continue
            values = padded[name][0]
            if head.per == "step":
                values = real_steps(values, row.length, manifest.padding)
            if not np.allclose(values, alone[name][0], tolerance, tolerance):
                off = np.abs(values - alone[name][0]).max()
                raise ConfigInvalid(
                    f"buckets: [{bucket}], but a sequence of {row.length} steps padded to it changes "
                    f'heads.{name} by {off:.3g}: say padding = "left" or "right" if training padded each row '
                    f"to {bucket} steps; if not, give several buckets and let the model mask its padding"
                )


def _check_steps(manifest: Manifest, outputs: Mapping[str, Array], length: int) -> None:
    for name, head in manifest.heads.items():
        if head.per == "step" and outputs[name].shape[1] != length:
            raise ConfigInvalid(
                f'heads.{name}.per: "step" is an answer for each step; of {length} steps the model gives '
                f"{outputs[name].shape[1]} (strides, pooling and padding='valid' change their number)"
            )


def _check_widths(manifest: Manifest, outputs: Mapping[str, Array]) -> None:
    """Refuse scores that are not one a label, where the model does not say so before it is run."""
    for name, head in manifest.heads.items():
        shape = outputs[name].shape[2 if head.per == "step" else 1 :]
        if isinstance(head, Softmax | Sigmoid) and len(shape) == 1 and shape[0] != len(head.labels):
            raise ConfigInvalid(
                f"heads.{name}.labels: labels has {len(head.labels)} entries, the model gives {shape[0]} "
                "scores: one for each, in training's order"
            )


def _margin(manifest: Manifest, outputs: Mapping[str, Array], row: Row) -> float:
    """Return how far any head's decision is from another one, as probability; infinite without classes."""
    margins = [np.inf]
    for name, head in manifest.heads.items():
        per_step = head.per == "step"
        values = real_steps(outputs[name], row.length, manifest.padding) if per_step else outputs[name]
        probabilities = _probabilities(name, head, values)
        if isinstance(head, Sigmoid):
            margins.append(float(np.abs(probabilities - np.array(head.thresholds)).min()))
        elif isinstance(head, Softmax):
            margins.append(margin(probabilities))
    return min(margins)


def _probabilities(name: str, head: Head, values: Array) -> Array:
    if isinstance(head, Numeric | TextHead):
        return values
    try:
        return (
            softmax_probabilities(head, values)
            if isinstance(head, Softmax)
            else sigmoid_probabilities(head, values)
        )
    except ValueError as error:
        shown = ", ".join(f"{value:.3g}" for value in values.reshape(-1)[:4].tolist())
        raise ConfigInvalid(
            f"heads.{name}.scores: {head.scores!r}, but {error} (the model gives {shown}, …)"
        ) from error


def _check_scores(heads: Mapping[str, Head], answered: Mapping[str, list[Array]]) -> None:
    """Refuse logits that are probabilities already, which a second softmax or sigmoid would flatten, and one
    answer of several that is taken for several of its own.
    """
    for name, head in heads.items():
        if not isinstance(head, Softmax | Sigmoid):
            continue
        values = np.concatenate([part.reshape(len(part), -1) for part in answered[name]])
        within = bool(((values >= 0) & (values <= 1)).all())
        sums = within and values.shape[1] > 1 and bool(np.abs(values.sum(axis=-1) - 1).max() < 1e-3)
        sign = f"each output of the model lies in 0 to 1 ({values.min():.3g} to {values.max():.3g})"
        if isinstance(head, Sigmoid) and sums:
            raise ConfigInvalid(
                f"heads.{name}.kind: 'sigmoid', but each output of the model sums to 1: it chooses one "
                'label, kind = "softmax" with scores = "probabilities"'
            )
        if isinstance(head, Softmax):
            sign = "each output of the model sums to 1"
        if head.scores == "logits" and (sums if isinstance(head, Softmax) else within):
            raise ConfigInvalid(
                f"heads.{name}.scores: 'logits', but {sign}: {head.kind} is applied already, so scores = "
                "'probabilities'; if not, give [[examples]] of real sequences that show it"
            )
