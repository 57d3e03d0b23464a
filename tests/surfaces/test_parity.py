"""One table, every surface of tensors: the same answer as our own door's, and the same reason."""

import json
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest

from seqserve.openinference import inference_pb2 as pb
from seqserve.service import errors
from seqserve.service.core.golden import first_difference
from seqserve.service.edge.key_file import add
from seqserve.service.edge.keys import new_key
from tests.doors import (
    HOURS,
    ORDER,
    SHOP,
    STAMPS,
    TEXT,
    WAVE,
    Both,
    Row,
    both_doors,
    draining,
    event,
    failing,
    full,
    limited,
    predict,
    reason_of,
    reset,
    thrifty,
    translate,
)
from tests.edge.fakes import key_line
from tests.surfaces.named import Values, arrays, by_row, columns, expected

KEY, NARROW = new_key(), new_key()
ROWS = [
    translate(),
    translate(texts=[TEXT, "9:05 AM", "twelve"]),
    translate(version=1),
    translate(label="stable"),
    translate(key=NARROW),
    predict(),
    predict(sequences=[SHOP, event("visit"), event(*["visit"] * 9, minutes=[float(n) for n in range(9)])]),
    predict(sequences=[{**SHOP, "minutes": STAMPS}]),
    predict(model="waves", sequences=[WAVE, {"signal": WAVE["signal"] * 7}]),
    predict(model="steps", sequences=[{"minutes": [0, 0.5, 12]}, {"minutes": [0, 1]}]),
    predict(model="loads", sequences=[HOURS, {"hours": HOURS["hours"] * 9}]),
    predict(model="orders", sequences=[ORDER, {**ORDER, "load": [[1.0, 1.0]] * 7}]),
    predict(model="window", sequences=[{"x": [0.1, 0.5, 0.2, 1.5, -1.0, 2.0]}]),
    predict(model="notes", sequences=[{"note": "Two cats run, run!"}, {"note": "dogs"}]),
    predict("PAD_COLLISION", model="orders", sequences=[{**ORDER, "load": [[1.0, 1.0], [-9.0, -9.0]]}]),
    predict("WRONG_WIDTH", model="orders", sequences=[{**ORDER, "customer": [31.0, 4.5, 6.0]}]),
    predict("SEQUENCE_TOO_SHORT", model="window", sequences=[{"x": [0.1, 0.5]}]),
    predict("EMPTY_TEXT", model="notes", sequences=[{"note": " "}]),
    translate("EMPTY_TEXT", texts=[TEXT, " "]),
    translate("TEXT_TOO_LONG", texts=["x" * 201]),
    translate("TOO_MANY_ITEMS", texts=["two"] * 9),
    translate("MODEL_NOT_FOUND", model="nope"),
    predict("MODEL_NOT_FOUND", model="nope"),
    translate("VERSION_NOT_FOUND", version=77),
    translate("LABEL_NOT_FOUND", label="canary"),
    predict("SEQUENCE_TOO_LONG", sequences=[event(*["visit"] * 33)]),
    predict("UNKNOWN_FEATURE", sequences=[{**SHOP, "colour": ["red", "red"]}]),
    predict("MISSING_FEATURE", sequences=[{"event": ["visit"]}]),
    predict("WRONG_TYPE", sequences=[{**SHOP, "minutes": ["soon", "late"]}]),
    predict("UNEQUAL_LENGTHS", sequences=[event("visit", minutes=[0.0, 1.0])]),
    predict("WRONG_WIDTH", model="loads", sequences=[{"hours": [[1.0, 2.0]]}]),
    predict("UNKNOWN_CATEGORY", sequences=[SHOP, event("visit", "nonsense")]),
    predict("NEGATIVE_ELAPSED", sequences=[event("visit", minutes=[-0.5])]),
    translate("QUEUE_FULL", state=full),
    predict("QUEUE_FULL", state=full),
    translate("RATE_LIMITED", state=limited),
    predict("REQUEST_TOO_COSTLY", state=thrifty),
    translate("BACKEND_FAILED", state=failing(errors.BackendFailed("as asked"))),
    predict("DRAINING", state=draining),
    translate("UNAUTHENTICATED", key=""),
    translate("PERMISSION_DENIED", model="nope", key=NARROW),
    predict("PERMISSION_DENIED", key=NARROW),
]
Answer = list[Values] | str | None
"""Values of each row; or a reason; None: the surface cannot say that."""


def place(row: Row) -> str:
    """Return the path of a row's version, as ours and TensorFlow Serving's are."""
    version = f"/versions/{row.version}" if row.version is not None else ""
    return f"/v1/models/{row.model}" + (f"/labels/{row.label}" if row.label is not None else version)


async def tfserving_rows(both: Both, row: Row) -> Answer:
    """By `instances`."""
    items = row.body.get("texts", row.body.get("sequences"))
    return await tfserving_rest(both, row, {"instances": items}, "predictions")


async def tfserving_columns(both: Both, row: Row) -> Answer:
    """By `inputs`."""
    given = columns(row)
    found = given and await tfserving_rest(both, row, {"inputs": given}, "outputs")
    if not isinstance(found, dict):
        return found
    count = len(next(iter(found.values())))
    return [{name: values[n] for name, values in found.items()} for n in range(count)]


async def tfserving_rest(both: Both, row: Row, body: dict[str, Any], member: str) -> Any:
    answer = await both.rest.post(place(row) + ":predict", json=body, headers=both.naming(row))
    content = answer.json()
    assert answer.headers["x-request-id"]
    if answer.status_code == 200:
        return content[member]
    assert content.get("error") or content["detail"]
    return content["reason"]


async def tfserving_grpc(both: Both, row: Row) -> Answer:
    """By the official stub, in typed lists."""
    from tensorflow import make_ndarray, make_tensor_proto
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    given = arrays(row)
    if given is None:
        return None
    request = predict_pb2.PredictRequest()
    request.model_spec.name = row.model
    if row.version is not None:
        request.model_spec.version.value = row.version
    if row.label is not None:
        request.model_spec.version_label = row.label
    for name, array in given.items():
        request.inputs[name].CopyFrom(make_tensor_proto(array))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(both.channel)
    try:
        answer = await stub.Predict(request, timeout=20, metadata=tuple(both.naming(row).items()))
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return by_row({name: make_ndarray(proto) for name, proto in answer.outputs.items()})


def infer_place(row: Row) -> str:
    """Return the path by which the Open Inference Protocol asks the same."""
    version = f"/versions/{row.version}" if row.version is not None else ""
    return f"/v2/models/{row.model}{version}/infer"


def described(name: str, array: np.ndarray) -> dict[str, Any]:
    """Return what the protocol says of a tensor beside its contents."""
    datatype = "BYTES" if array.dtype == object else "FP64"
    return {"name": name, "shape": list(array.shape), "datatype": datatype}


async def openinference_json(both: Both, row: Row) -> Answer:
    """All in JSON; null is NaN."""
    given = None if row.label is not None else arrays(row)
    if given is None:
        return None
    inputs = [
        {
            **described(name, array),
            "data": array.tolist() if array.dtype == object else json.loads(orjson.dumps(array.tolist())),
        }
        for name, array in given.items()
    ]
    answer = await both.rest.post(infer_place(row), json={"inputs": inputs}, headers=both.naming(row))
    content = answer.json()
    if answer.status_code != 200:
        assert content["error"]
        return str(content["reason"])
    return by_row(
        {
            output["name"]: np.array(
                output["data"], object if output["datatype"] == "BYTES" else float
            ).reshape(output["shape"])
            for output in content["outputs"]
        }
    )


def raw(array: np.ndarray) -> bytes:
    """Return an array's contents as the protocol has them."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in array.ravel())


def unpacked(datatype: str, shape: list[int], data: bytes) -> np.ndarray:
    """Return contents as an array."""
    if datatype != "BYTES":
        return np.frombuffer(data, {"FP64": "<f8", "BOOL": "?"}[datatype]).reshape(shape)
    texts = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return np.array(texts, object).reshape(shape)


async def openinference_binary(both: Both, row: Row) -> Answer:
    """Contents behind the JSON, both ways."""
    given = None if row.label is not None else arrays(row)
    if given is None:
        return None
    inputs = [
        {**described(name, array), "parameters": {"binary_data_size": len(raw(array))}}
        for name, array in given.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    answer = await both.rest.post(
        infer_place(row),
        content=head + b"".join(map(raw, given.values())),
        headers={**both.naming(row), "Inference-Header-Content-Length": str(len(head))},
    )
    if answer.status_code != 200:
        return str(answer.json()["reason"])
    end = int(answer.headers["inference-header-content-length"])
    behind, found = answer.content[end:], {}
    for output in json.loads(answer.content[:end])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = unpacked(output["datatype"], output["shape"], behind[:size])
        behind = behind[size:]
    assert not behind
    return by_row(found)


async def openinference_grpc(both: Both, row: Row, *, is_raw: bool = False) -> Answer:
    """In typed lists, or raw."""
    given = None if row.label is not None else arrays(row)
    if given is None:
        return None
    request = pb.ModelInferRequest(model_name=row.model, model_version=str(row.version or ""))
    for name, array in given.items():
        datatype = "BYTES" if array.dtype == object else "FP64"
        added = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if is_raw:
            request.raw_input_contents.append(raw(array))
        elif datatype == "BYTES":
            added.contents.bytes_contents.extend(text.encode() for text in array.ravel())
        else:
            added.contents.fp64_contents.extend(array.ravel())
    call = both.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    try:
        answer = await call(request, timeout=20, metadata=tuple(both.naming(row).items()))
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    assert bool(answer.raw_output_contents) == is_raw
    found = {}
    for place, output in enumerate(answer.outputs):
        shape = list(output.shape)
        if is_raw:
            found[output.name] = unpacked(output.datatype, shape, answer.raw_output_contents[place])
        else:
            ((_, values),) = output.contents.ListFields()
            found[output.name] = np.array(list(values), object if output.datatype == "BYTES" else None)
            found[output.name] = found[output.name].reshape(shape)
    return by_row(found)


async def openinference_raw(both: Both, row: Row) -> Answer:
    """Raw, by gRPC."""
    return await openinference_grpc(both, row, is_raw=True)


SURFACES: list[Callable[[Both, Row], Awaitable[Answer]]] = [
    tfserving_rows,
    tfserving_columns,
    tfserving_grpc,
    openinference_json,
    openinference_binary,
    openinference_grpc,
    openinference_raw,
]


async def ours(both: Both, row: Row) -> Answer:
    """By our own door; where an item fails, its reason: surfaces of tensors have no place for it."""
    answer, _ = await both.by_rest(row)
    if isinstance(answer, str):
        return answer
    (items,) = answer.values()
    failed = [item["error"]["reason"] for item in items if "error" in item]
    return failed[0] if failed else [expected(item) for item in items]


@pytest.fixture
def models(root: Path, kinds: Path, brought: Path, tmp_path: Path) -> Path:
    """A small model of each kind, and of a user's own: static features, several masks, a window, text."""
    import shutil

    for version in (*root.glob("*/1"), *kinds.glob("*/1"), *brought.glob("*/1")):
        shutil.copytree(version, tmp_path / "models" / version.parent.name / "1")
    return tmp_path / "models"


async def test_every_surface_agrees_with_our_own_door(models: Path, tmp_path: Path) -> None:
    wrong, said = [], dict.fromkeys((surface.__name__ for surface in SURFACES), 0)
    keys = tmp_path / "keys"
    for line in (key_line("all", KEY), key_line("narrow", NARROW, "translate:en-de")):
        add(keys, line)
    async with both_doors(models, key=KEY, keys=keys) as both:
        for row in ROWS:
            row.state(both)
            wanted = await ours(both, row)
            assert not row.reason or wanted == row.reason, row
            for surface in SURFACES:
                told = await surface(both, row)
                said[surface.__name__] += told is not None
                apart = told is not None and first_difference(wanted, told, 1e-5)
                if apart:
                    wrong.append(f"{surface.__name__} {row}: {apart}: {told}"[:700])
            reset(both)
    assert not wrong, "\n".join(wrong)
    assert min(said.values()) > 25, said
