"""Answers of the gRPC door in REST's form, so that the two can be compared."""

import re
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2


def as_rest(result: Any, member: str) -> dict[str, Any]:
    """Return one result in REST's form."""
    if result.WhichOneof("outcome") == "error":
        info = error_details_pb2.ErrorInfo()
        assert result.error.details[0].Unpack(info)
        code = next(code for code in grpc.StatusCode if code.value[0] == result.error.code)
        bad = error_details_pb2.BadRequest()
        assert result.error.details[1].Unpack(bad)
        (violation,) = bad.field_violations
        return {
            "error": {
                "code": code.name,
                "reason": info.reason,
                "message": result.error.message,
                "pointer": pointer_of(violation.field),
            }
        }
    item = MessageToDict(
        getattr(result, member), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    if "alignment" in item:
        item["alignment"] = [row["weights"] for row in item["alignment"]]
    if "heads" in item:
        item["heads"] = {name: head_as_rest(kind) for name, kind in item["heads"].items()}
    return item


def pointer_of(field: str) -> str:
    """Return `sequences[0].features["event"].values[2]` as `#/sequences/0/event/2`."""
    return "#/" + "/".join(re.findall(r"\w+", re.sub(r"\.(features|values)\b", "", field)))


def head_as_rest(kind: dict[str, Any]) -> Any:
    """Return one head's answer in REST's form: the oneof's member itself, and rows as plain lists."""
    (answer,) = kind.values()
    if "steps" in answer:
        return {**answer, "steps": [head_as_rest(step) for step in answer["steps"]]}
    if "horizon_answer" in kind:
        intervals = [{**i, "low": lists(i["low"]), "high": lists(i["high"])} for i in answer["intervals"]]
        return {**answer, "values": lists(answer["values"]), "intervals": intervals}
    return answer


def lists(rows: list[dict[str, Any]]) -> list[Any]:
    """Return HorizonRows as lists of numbers."""
    return [row["values"] for row in rows]


def prune(value: Any) -> Any:
    """Leave out what is empty: protobuf cannot tell an empty list from none."""
    if isinstance(value, dict):
        pruned = {key: prune(entry) for key, entry in value.items()}
        return {key: entry for key, entry in pruned.items() if entry not in ([], {}, None)}
    return [prune(entry) for entry in value] if isinstance(value, list) else value


def who(answer: Any) -> dict[str, Any]:
    """Return the version that answered, in REST's form."""
    return {"name": answer.model.name, "version": answer.model.version, "digest": answer.model.digest}
