"""The requests of `tests.doors` by the streams of both doors: answers in the form of the list's."""

import json
from typing import Any

import grpc

from seqserve.v1 import sequence_pb2, sequence_pb2_grpc, translation_pb2, translation_pb2_grpc
from tests.answers import as_rest, prune, who
from tests.doors import Both, Row, predict_message, translate_message
from tests.reasons import reason_of

LINES = "application/x-ndjson"
MEMBERS = {"translate": ("translations", "translation"), "predict": ("predictions", "prediction")}
"""By verb: the list of a REST answer, and the field of a result that was not at fault."""


async def streamed_by_rest(both: Both, row: Row) -> Any:
    """Return a problem's reason and code, or the answer as a list."""
    place = f"/versions/{row.version}" if row.version is not None else ""
    place = f"/labels/{row.label}" if row.label is not None else place
    headers = both.naming(row) | {"Accept": LINES} | ({"Grpc-Timeout": row.timeout} if row.timeout else {})
    response = await both.rest.post(
        f"/v1/models/{row.model}{place}:{row.verb}", json=row.body, headers=headers
    )
    if response.status_code != 200:
        problem = response.json()
        return problem["reason"], problem["code"]
    first, *items, end = map(json.loads, response.text.splitlines())
    assert [item.pop("index") for item in items] == list(range(end["done"]["items"]))
    assert end["done"]["failed"] == sum("error" in item for item in items)
    return prune({MEMBERS[row.verb][0]: items}), first["model"]


async def streamed_by_grpc(both: Both, row: Row) -> Any:
    """Return a status' reason and code, or the answer as a list in REST's form."""
    call: Any
    if row.verb == "translate":
        request: Any = translation_pb2.TranslateStreamRequest(translate=translate_message(row))
        call = translation_pb2_grpc.TranslationServiceStub(both.channel).TranslateStream
    else:
        request = sequence_pb2.PredictStreamRequest(predict=predict_message(row))
        call = sequence_pb2_grpc.SequenceServiceStub(both.channel).PredictStream
    try:
        metadata = tuple(both.naming(row).items())
        responses = [response async for response in call(request, timeout=row.seconds, metadata=metadata)]
    except grpc.aio.AioRpcError as error:
        return reason_of(error), error.code().name
    assert [response.index for response in responses] == list(range(len(responses)))
    member, field = MEMBERS[row.verb]
    items = [as_rest(response.result, field) for response in responses]
    for item in items:
        if "error" in item:
            item["error"]["pointer"] = item["error"]["pointer"].replace(f"#/{row.verb}/", "#/", 1)
    return prune({member: items}), who(responses[0])
