"""Messages to answers: the same that `reading` makes of JSON."""

from collections.abc import Iterable
from datetime import UTC
from typing import Any

from seqserve.client import answers
from seqserve.v1 import model_pb2


def model_version(given: Any) -> answers.ModelVersion:
    """Return who answered."""
    return answers.ModelVersion(given.name, given.version, given.digest)


def translation(given: Any) -> answers.Translation:
    """Return a translation."""
    return answers.Translation(
        given.text,
        _present(given, "score"),
        tuple(given.warnings),
        tuple(answers.Alternative(one.text, one.score) for one in given.alternatives),
        tuple(given.source_tokens),
        tuple(given.target_tokens),
        tuple(tuple(row.weights) for row in given.alignment),
    )


def prediction(given: Any) -> answers.Prediction:
    """Return a prediction."""
    details = (
        answers.WarningDetail(one.warning, one.feature, _present(one, "step"), one.value)
        for one in given.warning_details
    )
    heads = {name: head(given.heads[name]) for name in sorted(given.heads)}  # a map has no order
    return answers.Prediction(heads, tuple(given.warnings), tuple(details))


def head(given: Any) -> Any:
    """Return a head's answer, or a step's."""
    kind = given.WhichOneof("kind")
    answer = getattr(given, kind)
    match kind:
        case "class_answer":
            return answers.ClassAnswer(answer.label, answer.probability, _labelled(answer.top))
        case "labels_answer":
            return answers.LabelsAnswer(_labelled(answer.labels), _labelled(answer.all))
        case "value_answer":
            return _value(answer)
        case "steps_answer":
            return answers.StepsAnswer(tuple(map(head, answer.steps)), tuple(answer.words))
        case "horizon_answer":
            return _horizon(answer)
    return answers.TextAnswer(answer.text)


def _labelled(given: Iterable[Any]) -> tuple[answers.Labelled, ...]:
    return tuple(answers.Labelled(one.label, one.probability) for one in given)


def _value(given: Any) -> answers.ValueAnswer:
    columns = tuple(given.columns)
    value = tuple(given.values) if columns else given.value
    intervals = tuple(
        answers.Interval(one.level, tuple(one.lows), tuple(one.highs))
        if columns
        else answers.Interval(one.level, one.low, one.high)
        for one in given.intervals
    )
    return answers.ValueAnswer(value, given.unit, intervals, columns)


def _horizon(given: Any) -> answers.HorizonAnswer:
    intervals = tuple(answers.Interval(one.level, _rows(one.low), _rows(one.high)) for one in given.intervals)
    return answers.HorizonAnswer(_rows(given.values), tuple(given.columns), given.unit, intervals)


def _rows(given: Iterable[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row.values) for row in given)


def _present(given: Any, name: str) -> Any:
    return getattr(given, name) if given.HasField(name) else None


def model(given: Any) -> answers.Model:
    """Return a model."""
    return answers.Model(
        given.name,
        _present(given, "task"),
        _present(given, "current"),
        tuple(map(_version, given.versions)),
        {name: _feature(one) for name, one in given.features.items()},
        {
            name: answers.HeadDescription(
                one.kind, one.per, tuple(one.labels), _present(one, "unit"), tuple(one.columns)
            )
            for name, one in given.heads.items()
        },
        {field.name: value for field, value in given.limits.ListFields()},
    )


def _version(given: Any) -> answers.VersionStatus:
    standing = model_pb2.Standing.Name(given.standing).removeprefix("STANDING_")
    told = (_present(given, name) for name in ("digest", "reason", "message", "exported_name"))
    return answers.VersionStatus(given.version, standing, *told)


def _feature(given: Any) -> answers.FeatureDescription:
    return answers.FeatureDescription(
        given.kind,
        tuple(given.labels),
        _present(given, "width"),
        tuple(given.columns),
        tuple(given.units),
        _present(given, "unit"),
        _present(given, "origin"),
        _present(given, "per"),
    )


def session(given: Any) -> answers.SessionState:
    """Return a session as it is now."""
    expires = given.expires.ToDatetime(UTC)
    return answers.SessionState(given.id, model_version(given.model), given.next_event, expires)


def appended(given: Any) -> answers.Appended:
    """Return what came of an append."""
    return answers.Appended(session(given.session), prediction(given.prediction))
