"""What usually explains that a model's served answers are not the expected ones, tried one by one.

A cause is another reading of the contract. It is tried by the model itself, outside of any graph.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from seqserve.models.bring.answers import mismatch, pairs, probabilities
from seqserve.models.bring.expected import Expected
from seqserve.models.bring.trial import Function
from seqserve.models.bring.trial_inputs import Sent
from seqserve.service.contract.features import Files, SequenceEncoder
from seqserve.service.contract.heads import answer_head, by_word
from seqserve.service.contract.items import Prediction, answers_as_json
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Categories,
    Elapsed,
    Head,
    Manifest,
    Numbers,
    Numeric,
    Sigmoid,
    Softmax,
)
from seqserve.service.contract.padding import pad_batch
from seqserve.service.errors import InvalidArgument

LENGTHS = (10, 20, 30, 32, 40, 50, 60, 64, 80, 100, 128, 150, 200, 256, 500)
"""Lengths that rows are usually padded to."""
FACTORS = {"60": 60.0, "1/60": 1 / 60, "3600": 3600.0, "24": 24.0, "86400": 86400.0, "1000": 1000.0}
"""Between units of time."""
FAR = 3.0
"""Standardized values lie around 0 with a deviation of 1, and not further off."""
MOST_LABELS, SHOWN = 1000, 12
FEW_LABELS = 5
"""Of a feature: any order of so few is tried."""
Answer = Mapping[str, Any]
Change = Callable[[Manifest], Manifest]


@dataclass(frozen=True, slots=True)
class Alone:
    """The model outside of any graph, read by a manifest."""

    manifest: Manifest
    function: Function
    files: Files = field(default_factory=dict)

    def answer(self, sent: Sent) -> Answer:
        """Return each head's answer in its JSON form.

        Raises:
            InvalidArgument: such a sequence is refused.
            ValueError: the model's output is not what the manifest says.
        """
        manifest = self.manifest
        encoded = SequenceEncoder(manifest, PREDICT_SIGNATURE, self.files).encode(sent)
        row = encoded.row
        length = manifest.buckets[0] if len(manifest.buckets) == 1 else row.length
        inputs = pad_batch([row], length, manifest.signatures[PREDICT_SIGNATURE], manifest)
        outputs = {name: np.asarray(value)[0] for name, value in self.function(**inputs).items()}
        heads = {
            name: by_word(
                answer_head(head, outputs[name], row.length, manifest.padding, MOST_LABELS), encoded.words
            )
            for name, head in manifest.heads.items()
        }
        plain: Answer = answers_as_json([Prediction(heads)])[0]["heads"]
        return plain


@dataclass(frozen=True, slots=True)
class Cause:
    """A reading of the contract that may be the right one; `resend` gives what a caller would send then."""

    name: str
    change: Change = lambda manifest: manifest
    resend: Callable[[Sent], Sent] = lambda sent: sent
    reread: Callable[[Expected], Expected] = lambda expected: expected


def explanation(alone: Alone, cases: Sequence[Expected], tolerance: float) -> str | None:
    """Return the first usual cause, or two of them, that makes all of the cases equal; None if none does."""
    singles = list(_causes(alone, cases))
    for cause in singles:
        if _explains(alone, [cause], cases, tolerance):
            return cause.name
    for first in _of_padding(alone.manifest, cases) if len(alone.manifest.buckets) == 1 else ():
        others = (cause for cause in singles if cause.name != first.name)
        second = next((one for one in others if _explains(alone, [first, one], cases, tolerance)), None)
        if second is not None:
            return f"{first.name} and {second.name}"
    return None


def _explains(alone: Alone, causes: Sequence[Cause], cases: Sequence[Expected], tolerance: float) -> bool:
    manifest = alone.manifest
    for cause in causes:
        manifest = cause.change(manifest)
    changed = Alone(manifest, alone.function, alone.files)
    for case in cases:
        sent = case.sent
        for cause in causes:
            sent, case = cause.resend(sent), cause.reread(case)
        try:
            got = changed.answer(sent)
        except Exception:  # whatever the model says of a reading that is not its own
            return False
        if any(mismatch(manifest.heads[n], wanted, got[n], tolerance) for n, wanted in case.heads.items()):
            return False
    return True


def _causes(alone: Alone, cases: Sequence[Expected]) -> Iterator[Cause]:
    manifest = alone.manifest
    yield from _of_padding(manifest, cases)
    for name, feature in manifest.features.items():
        match feature:
            case Categories():
                yield from _of_categories(name, feature)
            case Numbers():
                yield from _of_numbers(name, feature)
            case Elapsed():
                yield from _of_elapsed(name, feature)
    for name, head in manifest.heads.items():
        yield from _of_head(name, head, alone, cases)


def _feature(name: str, **update: Any) -> Change:
    def change(manifest: Manifest) -> Manifest:
        changed = manifest.features[name].model_copy(update=update)
        return manifest.model_copy(update={"features": {**manifest.features, name: changed}})

    return change


def _head(name: str, **update: Any) -> Change:
    def change(manifest: Manifest) -> Manifest:
        changed = manifest.heads[name].model_copy(update=update)
        return manifest.model_copy(update={"heads": {**manifest.heads, name: changed}})

    return change


def _of_padding(manifest: Manifest, cases: Sequence[Expected]) -> Iterator[Cause]:
    """Yield the other side; where rows of any length are taken, the lengths that rows may be padded to."""
    if len(manifest.buckets) == 1:
        other = "left" if manifest.padding == "right" else "right"
        yield Cause(f'padding = "{other}"', lambda given: given.model_copy(update={"padding": other}))
        return
    values = [value for case in cases for value in case.sent.values() if isinstance(value, list)]
    longest = max(map(len, values), default=0)
    for length in dict.fromkeys([longest, *LENGTHS]) if manifest.buckets else ():
        for side in ("left", "right") if length >= longest else ():
            yield Cause(
                f'buckets = [{length}], padding = "{side}" (training\'s rows had one length)',
                partial(_padded, length=length, side=side),
            )


def _padded(given: Manifest, length: int, side: str) -> Manifest:
    return given.model_copy(update={"buckets": (length,), "padding": side})


def _of_categories(name: str, feature: Categories) -> Iterator[Cause]:
    for first in (0, 1, 2, 3):
        if first != feature.first_id:
            yield Cause(f"features.{name}.first_id = {first}", _feature(name, first_id=first))
    for how, labels in _orders(feature.labels):
        yield Cause(f"features.{name}.labels {how}", _feature(name, labels=labels))
    for order in itertools.permutations(feature.labels) if len(feature.labels) <= FEW_LABELS else ():
        yield Cause(f"features.{name}.labels = [{_quoted(order)}]", _feature(name, labels=order))


def _orders(labels: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the usual orders of labels that are not the contract's."""
    orders = {"in alphabetical order": sorted(labels), "in reverse": list(reversed(labels))}
    if all(label.isdecimal() for label in labels):
        orders["in the order of their numbers"] = sorted(labels, key=int)
    for how, order in orders.items():
        if tuple(order) != labels:
            yield how, tuple(order)


def _quoted(labels: Sequence[str]) -> str:
    return ", ".join(f'"{label}"' for label in labels[:SHOWN]) + ", …" * (len(labels) > SHOWN)


def _of_numbers(name: str, feature: Numbers) -> Iterator[Cause]:
    field, ones, zeros = f"features.{name}", (1.0,) * feature.width, (0.0,) * feature.width
    if (feature.mean, feature.scale) == (zeros, ones):
        for factor in (255.0, 100.0, 1000.0):
            by = (factor,) * feature.width
            yield Cause(f"{field}.scale = {list(by)[:SHOWN]}", _feature(name, scale=by))
        return
    yield Cause(f"{field} without mean and scale", _feature(name, mean=zeros, scale=ones))
    inverse, root = tuple(1 / x for x in feature.scale), tuple(abs(x) ** 0.5 for x in feature.scale)
    yield Cause(f"{field} without mean", _feature(name, mean=zeros))
    yield Cause(f"{field} without scale", _feature(name, scale=ones))
    yield Cause(
        f"{field}.scale = {_listed(inverse)}: numbers are divided by it", _feature(name, scale=inverse)
    )
    yield Cause(f"{field}.scale = {_listed(root)}: a deviation, not a variance", _feature(name, scale=root))


def unusual_scales(manifest: Manifest, cases: Sequence[Expected]) -> Iterator[str]:
    """Yield what to look at where values are far from standardized as the contract scales them.

    It names no cause, because training's mean and scale cannot be found from a few sequences.
    """
    for name, feature in manifest.features.items():
        if not isinstance(feature, Numbers):
            continue
        sent = [np.array(case.sent[name], np.float64).reshape(-1, feature.width) for case in cases]
        values = (np.concatenate(sent) - np.array(feature.mean)) / np.array(feature.scale)
        centre, spread = values.mean(axis=0), values.std(axis=0)
        if (np.abs(centre) > FAR).any() or (spread > FAR).any():
            yield (
                f"features.{name}: with this mean and scale the values lie around {_listed(centre.tolist())}"
                f", deviation {_listed(spread.tolist())}: give training's mean and scale if it had them"
            )


def _listed(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values[:SHOWN])}{', …' * (len(values) > SHOWN)}]"


def _of_elapsed(name: str, feature: Elapsed) -> Iterator[Cause]:
    field = f"features.{name}"
    other = "last" if feature.origin == "previous" else "previous"
    yield Cause(
        f'{field}.origin = "{other}"',
        _feature(name, origin=other),
        lambda sent: {**sent, name: _from(other, sent[name])},
    )
    log = "none" if feature.transform == "log1p" else "log1p"
    yield Cause(f'{field}.transform = "{log}"', _feature(name, transform=log))
    if feature.scale != 1:
        yield Cause(f"{field}.scale = 1", _feature(name, scale=1.0))
    for unit in ("seconds", "minutes", "hours", "days"):
        if unit != feature.unit:
            yield Cause(f'{field}.unit = "{unit}"', _feature(name, unit=unit))
    for shown, factor in FACTORS.items():
        yield Cause(f"{field}.scale = {shown} times that", _feature(name, scale=feature.scale * factor))


def _from(origin: str, times: Any) -> Any:
    """Return times between events as times up to the last, or back; timestamps as they are."""
    if not isinstance(times, list):
        return times
    values = np.array(times, np.float64).reshape(-1)
    changed = (
        values[1:].sum() - np.cumsum([0.0, *values[1:]])
        if origin == "last"
        else -np.diff(values, prepend=values[:1])
    )
    return changed.tolist()


# --- heads ------------------------------------------------------------------------------------------


def _of_head(name: str, head: Head, alone: Alone, cases: Sequence[Expected]) -> Iterator[Cause]:
    wanted = [case for case in cases if name in case.heads]
    if isinstance(head, Softmax | Sigmoid):
        other = "probabilities" if head.scores == "logits" else "logits"
        yield Cause(f'heads.{name}.scores = "{other}"', _head(name, scores=other))
        yield Cause(
            f"heads.{name}: probabilities expected, not logits: those expected are the model's own logits",
            reread=lambda case: _squashed(case, name, head),
        )
        for how, labels in _orders(head.labels):
            yield Cause(f"heads.{name}.labels {how}", _head(name, labels=labels))
        order = _order_seen(name, head, alone, wanted)
        if order is not None and order != head.labels:
            yield Cause(f"heads.{name}.labels = [{_quoted(order)}]", _head(name, labels=order))
    elif isinstance(head, Numeric):
        yield from _of_numeric(name, head, alone, wanted)


def _squashed(case: Expected, name: str, head: Softmax | Sigmoid) -> Expected:
    """Return a case whose expected logits of every label are made probabilities."""
    given = case.heads.get(name)
    if not isinstance(given, dict) or len(given) != len(head.labels):
        return case
    scores = np.array(list(given.values()))
    raised = np.exp(scores - scores.max()) if isinstance(head, Softmax) else 1 / (1 + np.exp(-scores))
    values = raised / raised.sum() if isinstance(head, Softmax) else raised
    return Expected(
        case.field, case.sent, {**case.heads, name: dict(zip(given, values.tolist(), strict=True))}
    )


def _single(name: str, head: Head, alone: Alone, cases: Sequence[Expected]) -> list[tuple[Any, Answer]]:
    """Return each single answer of a head, wanted and given."""
    try:
        answered = [(case.heads[name], alone.answer(case.sent)[name]) for case in cases]
    except (InvalidArgument, ValueError):
        return []
    return [pair for wanted, got in answered for pair in pairs(head, wanted, got)]


def _order_seen(
    name: str, head: Softmax | Sigmoid, alone: Alone, cases: Sequence[Expected]
) -> tuple[str, ...] | None:
    """Return the order of labels in which the model's outputs are the expected ones, where there is one."""
    place = {label: at for at, label in enumerate(head.labels)}
    seen: dict[int, str] = {}
    both = _single(name, head, alone, cases)
    if both and all(isinstance(wanted, dict) and len(wanted) == len(place) for wanted, _ in both):
        served = np.array([[probabilities(got).get(n, 0.0) for n in head.labels] for _, got in both])
        expected = np.array([[wanted[n] for n in head.labels] for wanted, _ in both])
        off = np.abs(served.T[:, None] - expected.T[None]).max(axis=-1)  # (served, expected)
        seen = {at: head.labels[int(row.argmin())] for at, row in enumerate(off)}
    for wanted, got in both if not seen else ():
        label = max(wanted, key=wanted.__getitem__) if isinstance(wanted, dict) else wanted
        if isinstance(label, str) and seen.setdefault(place[got["label"]], label) != label:
            return None
    if len(set(seen.values())) != len(seen):
        return None
    free = iter([label for label in head.labels if label not in seen.values()])
    return tuple(seen[at] if at in seen else next(free) for at in range(len(head.labels)))


def _of_numeric(name: str, head: Numeric, alone: Alone, cases: Sequence[Expected]) -> Iterator[Cause]:
    field, width = f"heads.{name}", len(head.scale)
    zeros, ones = (0.0,) * width, (1.0,) * width
    if (head.mean, head.scale) != (zeros, ones):
        yield Cause(f"{field} without mean and scale", _head(name, mean=zeros, scale=ones))
    inverse = "none" if head.inverse == "expm1" else "expm1"
    yield Cause(f'{field}.inverse = "{inverse}"', _head(name, inverse=inverse))
    if head.inverse == "none" and width == 1:
        yield from _fitted(name, head, alone, cases)


def _fitted(name: str, head: Numeric, alone: Alone, cases: Sequence[Expected]) -> Iterator[Cause]:
    """Yield the mean and scale that turn served values into expected ones, where three or more show them."""
    both = _single(name, head, alone, cases)
    served = np.array([x for _, got in both for x in np.ravel(got.get("values", got.get("value")))])
    wanted = np.array([x for one, _ in both for x in np.ravel(one)])
    if len(served) < 3 or len(served) != len(wanted) or np.ptp(served) == 0:
        return
    slope, shift = np.polyfit(served, wanted, 1)
    scale, mean = head.scale[0] * slope, head.mean[0] * slope + shift
    if scale:
        shown = f"heads.{name}.mean = [{mean:.6g}], scale = [{scale:.6g}]"
        yield Cause(shown, _head(name, mean=(float(mean),), scale=(float(scale),)))
