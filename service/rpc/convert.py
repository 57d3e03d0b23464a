"""Messages to the bodies and items of `service.contract` and back: pure functions, nothing else.

What an option's absence means, and what is out of range, is not known here: an absent option is left out of
the body, whose defaults are REST's, and the codecs check both doors.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from google.protobuf.message import Message

from seqserve.service import errors
from seqserve.service.contract import items
from seqserve.service.contract.items import FailedItem, PredictBody, Sampling, TranslateBody
from seqserve.service.contract.late import Late
from seqserve.service.contract.padding import Array
from seqserve.service.core.sessions.session import Session
from seqserve.service.core.sessions.sessions import Append, Appended
from seqserve.service.core.sessions.steps import Options
from seqserve.service.core.types import Answered, Come, ModelRef, Order
from seqserve.service.errors import Path
from seqserve.service.rpc.faults import Field, dotted, item_status
from seqserve.v1 import model_pb2, sequence_pb2, session_pb2, translation_pb2

OPTIONS = {
    **dict.fromkeys(translation_pb2.DecodeOptions.DESCRIPTOR.fields_by_name, "options"),
    **dict.fromkeys(translation_pb2.Sampling.DESCRIPTOR.fields_by_name, "options.sampling"),
}
"""Where each option of a translation lies in its request."""

ORDERS: Mapping[int, Order] = {
    model_pb2.RESULT_ORDER_UNSPECIFIED: Order.INDEX,
    model_pb2.RESULT_ORDER_INDEX: Order.INDEX,
    model_pb2.RESULT_ORDER_FINISHED: Order.FINISHED,
}
MOST_SORTED = 1000
"""Features of a sequence that are told in order; to sort many more would take longer than all else."""

# --- requests -------------------------------------------------------------------------------------


def model_ref(selector: model_pb2.ModelSelector) -> ModelRef:
    """Return the model that a selector names."""
    match selector.WhichOneof("choice"):
        case "version":
            return ModelRef(selector.name, version=selector.version)
        case "label":
            return ModelRef(selector.name, label=selector.label)
    return ModelRef(selector.name)


def translate_body(request: translation_pb2.TranslateRequest) -> TranslateBody:
    """Return the body that REST would have read."""
    given = _present(request.options)
    if "sampling" in given:
        given["sampling"] = Sampling(**_present(request.options.sampling))
    return TranslateBody(texts=list(request.texts), **given)


def predict_body(request: sequence_pb2.PredictRequest) -> PredictBody:
    """Return the body that REST would have read, but that features are made when they are looked at."""
    given = {name: value for name, value in _present(request).items() if name in ("top_k", "seed")}
    given["sequences"] = [_Features(sequence.features) for sequence in request.sequences]
    return PredictBody.model_construct(heads=list(request.heads) or None, **given)


def append_of(request: session_pb2.AppendRequest) -> Append:
    """Return what is asked of a session."""
    given = {name: value for name, value in _present(request).items() if name == "top_k"}
    options = Options(heads=tuple(request.heads) or None, **given)
    return Append(request.first_event, _Features(request.sequence.features), options)


def order_of(given: int) -> Order:
    """Return which results of a stream are sent first; raises OptionOutOfRange."""
    if given not in ORDERS:
        raise errors.OptionOutOfRange(f"order is {given}; a value of ResultOrder is wanted")
    return ORDERS[given]


def _present(message: Message) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}


class _Features(Mapping[str, Any]):
    """A sequence's features by name, as `SequenceEncoder.encode` takes them."""

    __slots__ = ("_features",)

    def __init__(self, features: Mapping[str, sequence_pb2.Feature]) -> None:
        self._features = features

    def __getitem__(self, name: str) -> Any:
        if name not in self._features:  # else a message's map would make it
            raise KeyError(name)
        return _values(self._features[name])

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._features) if len(self) <= MOST_SORTED else self._features)

    def __len__(self) -> int:
        return len(self._features)


def _values(feature: sequence_pb2.Feature) -> Any:
    """Return the values as `SequenceEncoder.encode` takes them; None, which it refuses, if none are set."""
    match feature.WhichOneof("values"):
        case "strings":
            return Late(len(feature.strings.values), lambda: list(feature.strings.values))
        case "numbers":
            return _rows(feature.numbers)
        case "timestamps":
            stamps = feature.timestamps
            return {"timestamps": Late(len(stamps.values), lambda: _seconds(stamps))}
    return None


def _rows(numbers: sequence_pb2.Numbers) -> Late:
    """Return (time) or (time, width) numbers; a last row that is short is refused once it is looked at.

    A width below 1 stands for rows of nothing, as many as there are values.
    """
    count, width = len(numbers.values), numbers.width or 1

    def make() -> Array:
        if width < 1 or count % width:
            step, columns = divmod(count, width) if width > 1 else (0, 0)
            raise errors.WrongWidth(f"step {step} has {columns} columns; width is {width}", path=(step,))
        values = np.array(numbers.values, np.float64)
        return values if width == 1 else values.reshape(-1, width)

    return Late(-(-count // max(width, 1)), make)


def _seconds(timestamps: sequence_pb2.Timestamps) -> Array:
    """Return seconds since 1970 (time), cut to whole microseconds as REST's timestamps are."""
    seconds = [stamp.seconds + stamp.nanos // 1000 / 1e6 for stamp in timestamps.values]
    return np.array(seconds, np.float64)


# --- places -------------------------------------------------------------------------------------


def translate_field(path: Path) -> str:
    """Return a body's path as a field of the request: `texts[3]`, `options.beam_size`."""
    match path:
        case (str(root), *_) if root in OPTIONS:
            return f"{OPTIONS[root]}.{dotted(path)}"
    return dotted(path)


def predict_field(path: Path) -> str:
    """Return a body's path as a field of the request: `sequences[0].features["minutes"].values[2]`.

    `.values[2]` behind a feature is its step 2, whichever member of `values` is set, and however many
    columns a step has.
    """
    match path:
        case ("sequences", int(place), str(feature), *rest):
            within = f"sequences[{place}].features[{json.dumps(feature, ensure_ascii=False)}]"
            return within + _inside(rest)
    return dotted(path)


def append_field(path: Path) -> str:
    """Return a path as a field of an AppendRequest: `sequence.features["minutes"].values[2]`."""
    match path:
        case ("sequence", str(feature), *rest):
            return f"sequence.features[{json.dumps(feature, ensure_ascii=False)}]" + _inside(rest)
    return dotted(path)


def append_stream_field(path: Path) -> str:
    """Return a path as a field of an AppendStreamRequest."""
    return within("append", append_field, path)


def within(member: str, field: Field, path: Path) -> str:
    """Return a path as a field of a request that holds another one, whose own fields `field` names."""
    return f"{member}.{field(path)}"


def _inside(rest: Sequence[str | int]) -> str:
    names = [part for part in rest if isinstance(part, str)]
    return "".join([*(f".{name}" for name in names), *(f".values[{n}]" for n in rest if isinstance(n, int))])


# --- answers --------------------------------------------------------------------------------------


def translate_response(answered: Answered) -> translation_pb2.TranslateResponse:
    """Return the translations, with each failed text's error in its place."""
    results = [translate_result(item) for item in answered.items]
    return translation_pb2.TranslateResponse(model=version_message(answered), results=results)


def translate_result(item: items.Item, field: Field = translate_field) -> translation_pb2.TranslateResult:
    """Return a translation, or a failed text's error; `field` names the place of a fault."""
    if isinstance(item, FailedItem):
        return translation_pb2.TranslateResult(error=item_status(item.error, field))
    return translation_pb2.TranslateResult(translation=_translation(cast(items.Translation, item)))


def predict_response(answered: Answered) -> sequence_pb2.PredictResponse:
    """Return the predictions, with each failed sequence's error in its place."""
    results = [predict_result(item) for item in answered.items]
    return sequence_pb2.PredictResponse(model=version_message(answered), results=results)


def predict_result(item: items.Item, field: Field = predict_field) -> sequence_pb2.PredictResult:
    """Return a prediction, or a failed sequence's error; `field` names the place of a fault."""
    if isinstance(item, FailedItem):
        return sequence_pb2.PredictResult(error=item_status(item.error, field))
    return sequence_pb2.PredictResult(prediction=_prediction(cast(items.Prediction, item)))


def version_message(answered: Answered | Come) -> model_pb2.ModelVersion:
    """Return who answers."""
    return model_pb2.ModelVersion(name=answered.model, version=answered.version, digest=answered.digest)


def append_response(appended: Appended) -> session_pb2.AppendResponse:
    """Return a session as it is now, and the prediction."""
    return session_pb2.AppendResponse(
        session=session_message(appended.session), prediction=_prediction(appended.prediction)
    )


def session_message(session: Session) -> session_pb2.Session:
    """Return a session, without what is in it."""
    shown = session_pb2.Session(
        id=session.id,
        model=model_pb2.ModelVersion(name=session.ref.name, version=session.version, digest=session.digest),
        next_event=session.next_event,
    )
    shown.expires.FromMilliseconds(round(session.expires * 1000))
    return shown


def _translation(item: items.Translation) -> translation_pb2.Translation:
    return translation_pb2.Translation(
        text=item.text,
        score=item.score,
        alternatives=[
            translation_pb2.Alternative(text=other.text, score=other.score)
            for other in item.alternatives or ()
        ],
        source_tokens=item.source_tokens or (),
        target_tokens=item.target_tokens or (),
        alignment=[translation_pb2.AlignmentRow(weights=row) for row in item.alignment or ()],
        warnings=item.warnings,
    )


def _prediction(item: items.Prediction) -> sequence_pb2.Prediction:
    heads = {name: _head(answer) for name, answer in item.heads.items()}
    details = [
        sequence_pb2.WarningDetail(warning=one.warning, feature=one.feature, step=one.step, value=one.value)
        for one in item.warning_details or ()
    ]
    return sequence_pb2.Prediction(heads=heads, warnings=item.warnings, warning_details=details)


def _head(answer: items.HeadAnswer) -> sequence_pb2.HeadAnswer:
    match answer:
        case items.StepsAnswer():
            steps = sequence_pb2.StepsAnswer(steps=map(_step, answer.steps), words=answer.words or ())
            return sequence_pb2.HeadAnswer(steps_answer=steps)
        case items.HorizonAnswer():
            return sequence_pb2.HeadAnswer(horizon_answer=_horizon(answer))
        case items.TextAnswer():
            return sequence_pb2.HeadAnswer(text_answer=sequence_pb2.TextAnswer(text=answer.text))
    return sequence_pb2.HeadAnswer(**_one(answer))


def _step(answer: items.ClassAnswer | items.LabelsAnswer | items.ValueAnswer) -> sequence_pb2.StepAnswer:
    return sequence_pb2.StepAnswer(**_one(answer))


def _one(answer: items.ClassAnswer | items.LabelsAnswer | items.ValueAnswer) -> dict[str, Any]:
    """Return the member of HeadAnswer, or of StepAnswer, that the answer is."""
    match answer:
        case items.ClassAnswer():
            return {"class_answer": _class(answer)}
        case items.LabelsAnswer():
            labels, every = _labelled(answer.labels), _labelled(answer.all)
            return {"labels_answer": sequence_pb2.LabelsAnswer(labels=labels, all=every)}
        case items.ValueAnswer():
            return {"value_answer": _value(answer)}


def _class(answer: items.ClassAnswer) -> sequence_pb2.ClassAnswer:
    return sequence_pb2.ClassAnswer(
        label=answer.label, probability=answer.probability, top=_labelled(answer.top)
    )


def _labelled(labels: Iterable[items.Labelled]) -> list[sequence_pb2.Labelled]:
    return [sequence_pb2.Labelled(label=one.label, probability=one.probability) for one in labels]


def _value(answer: items.ValueAnswer) -> sequence_pb2.ValueAnswer:
    single = answer.columns is None
    return sequence_pb2.ValueAnswer(
        value=answer.value if single else None,
        values=() if single else answer.value,
        columns=answer.columns or (),
        unit=answer.unit,
        intervals=[_interval(interval, single) for interval in answer.intervals],
    )


def _interval(interval: items.Interval, single: bool) -> sequence_pb2.Interval:
    if single:
        return sequence_pb2.Interval(level=interval.level, low=interval.low, high=interval.high)
    return sequence_pb2.Interval(level=interval.level, lows=interval.low, highs=interval.high)


def _horizon(answer: items.HorizonAnswer) -> sequence_pb2.HorizonAnswer:
    intervals = [
        sequence_pb2.HorizonInterval(level=one.level, low=_table(one.low), high=_table(one.high))
        for one in answer.intervals
    ]
    return sequence_pb2.HorizonAnswer(
        values=_table(answer.values), columns=answer.columns, unit=answer.unit, intervals=intervals
    )


def _table(rows: Sequence[Sequence[float]]) -> list[sequence_pb2.HorizonRow]:
    return [sequence_pb2.HorizonRow(values=row) for row in rows]
