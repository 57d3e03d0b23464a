"""JSON as the REST door has it, to answers. Unknown members are left: a newer service may say more."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from seqserve.client import answers
from seqserve.client.errors import ServiceError, Violation, kind_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Json = Mapping[str, Any]
Kind = TypeVar("Kind", bound="DataclassInstance")


def model_version(given: Json) -> answers.ModelVersion:
    """Return who answered."""
    return answers.ModelVersion(given["name"], given["version"], given["digest"])


def translation(given: Json) -> answers.Translation:
    """Return a translation."""
    return answers.Translation(
        given["text"],
        given.get("score"),
        tuple(given.get("warnings", ())),
        tuple(answers.Alternative(one["text"], one["score"]) for one in given.get("alternatives", ())),
        tuple(given.get("source_tokens", ())),
        tuple(given.get("target_tokens", ())),
        tuple(map(tuple, given.get("alignment", ()))),
    )


def prediction(given: Json) -> answers.Prediction:
    """Return a prediction."""
    details = (
        answers.WarningDetail(one["warning"], one["feature"], one.get("step"), one["value"])
        for one in given.get("warning_details", ())
    )
    heads = {name: head(answer) for name, answer in given["heads"].items()}
    return answers.Prediction(heads, tuple(given.get("warnings", ())), tuple(details))


def head(given: Json) -> answers.HeadAnswer:
    """Return a head's answer; its members say of which kind it is."""
    if "steps" in given:
        steps: Any = tuple(map(head, given["steps"]))
        return answers.StepsAnswer(steps, tuple(given.get("words", ())))
    if "labels" in given:
        return answers.LabelsAnswer(_labelled(given["labels"]), _labelled(given["all"]))
    if "label" in given:
        return answers.ClassAnswer(given["label"], given["probability"], _labelled(given["top"]))
    if "text" in given:
        return answers.TextAnswer(given["text"])
    columns, unit = tuple(given.get("columns", ())), given.get("unit", "")
    intervals = tuple(
        answers.Interval(one["level"], _frozen(one["low"]), _frozen(one["high"]))
        for one in given.get("intervals", ())
    )
    if "values" in given:
        return answers.HorizonAnswer(_frozen(given["values"]), columns, unit, intervals)
    return answers.ValueAnswer(_frozen(given["value"]), unit, intervals, columns)


def _labelled(given: Iterable[Json]) -> tuple[answers.Labelled, ...]:
    return tuple(answers.Labelled(one["label"], one["probability"]) for one in given)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def model(given: Json) -> answers.Model:
    """Return a model."""
    return answers.Model(
        given["name"],
        given.get("task"),
        given.get("current"),
        tuple(_filled(answers.VersionStatus, one) for one in given["versions"]),
        {name: _filled(answers.FeatureDescription, one) for name, one in given.get("features", {}).items()},
        {name: _filled(answers.HeadDescription, one) for name, one in given.get("heads", {}).items()},
        dict(given.get("limits", {})),
    )


def _filled(kind: type[Kind], given: Json) -> Kind:
    known = {field.name for field in fields(kind)}
    return kind(**{name: _frozen(value) for name, value in given.items() if name in known})


def session(given: Json) -> answers.SessionState:
    """Return a session as it is now."""
    expires = datetime.fromisoformat(given["expires"])
    return answers.SessionState(given["id"], model_version(given["model"]), given["next_event"], expires)


def appended(given: Json) -> answers.Appended:
    """Return what came of an append."""
    return answers.Appended(session(given["session"]), prediction(given["prediction"]))


def item_error(given: Json) -> ServiceError:
    """Return what stands in the place of an item that failed."""
    code, reason, message = given["code"], given["reason"], given["message"]
    violation = Violation(given.get("pointer", ""), message, reason)
    return kind_of(code, reason)(message, code=code, reason=reason, errors=[violation])
