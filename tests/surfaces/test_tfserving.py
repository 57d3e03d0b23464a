"""TensorFlow Serving's APIs beside Predict: by its own stubs, and what its REST API answers."""

from typing import Any

import grpc
import pytest
from tensorflow import make_tensor_proto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.doors import SHOP, TEXT, Both, predict, reason_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
SHOP_PATH, TEXT_PATH = "/v1/models/shop:predict", "/v1/models/en-de:predict"


async def test_metadata_names_what_predict_takes_and_gives(both: Both) -> None:
    """By its own messages, and by REST the same."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(both.channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "shop"
    answer = await stub.GetModelMetadata(request, timeout=20)
    assert answer.model_spec.version.value == 1
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(definitions)
    signature = definitions.signature_def["serving_default"]
    shapes = {name: [dim.size for dim in info.tensor_shape.dim] for name, info in signature.inputs.items()}
    assert shapes == {"event": [-1, -1], "minutes": [-1, -1]}
    given = predict_pb2.PredictRequest(inputs={n: make_tensor_proto([v]) for n, v in SHOP.items()})
    given.model_spec.name = "shop"
    outputs = (await stub.Predict(given, timeout=20)).outputs
    assert {name: out.dtype for name, out in outputs.items()} == {
        name: info.dtype for name, info in signature.outputs.items()
    }
    content = (await both.rest.get("/v1/models/shop/versions/1/metadata")).json()
    told = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert set(told["outputs"]) == set(outputs)
    assert told["inputs"]["event"]["dtype"] == "DT_STRING"
    assert [dim["size"] for dim in told["inputs"]["event"]["tensor_shape"]["dim"]] == ["-1", "-1"]
    del request.metadata_field[:]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetModelMetadata(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_states_of_versions(both: Both) -> None:
    """By its own stub and by REST, where our own description stands beside them."""
    stub = model_service_pb2_grpc.ModelServiceStub(both.channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "en-de"
    (state,) = (await stub.GetModelStatus(request, timeout=20)).model_version_status
    assert (state.version, state.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    wanted = [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
    for path in ("", "/versions/1", "/labels/stable"):
        content = (await both.rest.get(f"/v1/models/en-de{path}")).json()
        assert content["model_version_status"] == wanted
        assert ("current" in content) == (path == "")
    for path, reason in (
        ("en-de/versions/7", "VERSION_NOT_FOUND"),
        ("en-de/labels/x", "LABEL_NOT_FOUND"),
        ("nope/metadata", "MODEL_NOT_FOUND"),
    ):
        refused = await both.rest.get(f"/v1/models/{path}")
        assert (refused.status_code, refused.json()["reason"]) == (404, reason)
        assert refused.json()["error"]


async def test_what_takes_examples_is_refused_in_words(both: Both) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(both.channel)
    with pytest.raises(grpc.aio.AioRpcError, match="ask Predict") as caught:
        await stub.Classify(classification_pb2.ClassificationRequest(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reason_of(caught.value) == "UNSUPPORTED"
    for verb in ("classify", "regress"):
        refused = await both.rest.post(f"/v1/models/shop/versions/1:{verb}", json={"examples": []})
        assert (refused.status_code, refused.json()["reason"]) == (400, "UNSUPPORTED")
        assert "ask Predict" in refused.json()["error"]


async def test_outputs_can_be_chosen(both: Both) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(both.channel)
    request = predict_pb2.PredictRequest(inputs={"text": make_tensor_proto([TEXT])}, output_filter=["text"])
    request.model_spec.name = "en-de"
    assert set((await stub.Predict(request, timeout=20)).outputs) == {"text"}
    request.output_filter.append("nope")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Predict(request, timeout=20)
    assert reason_of(caught.value) == "UNKNOWN_HEAD"


def tensor(shape: list[int], **values: Any) -> predict_pb2.PredictRequest:
    """Return a request with one odd input."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "shop"
    request.inputs["event"].CopyFrom(make_tensor_proto([SHOP["event"]]))
    odd = request.inputs["minutes"]
    odd.dtype = values.pop("dtype", 1)
    for size in shape:
        odd.tensor_shape.dim.add().size = size
    for name, value in values.items():
        if isinstance(value, bytes):
            odd.tensor_content = value
        else:
            getattr(odd, name).extend(value)
    return request


@pytest.mark.parametrize(
    "request_",
    [
        tensor([1, 2], float_val=[0.0]),
        tensor([1, 2**62], float_val=[0.0]),  # which would be repeated
        tensor([2**32, 2**32], float_val=[]),
        tensor([1, -1], float_val=[0.0]),
        tensor([], float_val=[0.0]),
        tensor([1, 1, 1, 1], float_val=[0.0]),
        tensor([1, 2], tensor_content=b"12345"),
        tensor([2, 2], float_val=[0.0] * 4),
        tensor([1, 2], dtype=19),
        tensor([1, 1], dtype=7, string_val=[b"\xff"]),
    ],
)
async def test_tensors_that_do_not_fit(both: Both, request_: predict_pb2.PredictRequest) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(both.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Predict(request_, timeout=20)
    assert reason_of(caught.value) == "MALFORMED_TENSOR"


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (SHOP_PATH, {"instances": [SHOP], "signature_name": "zzz"}, "OPTION_OUT_OF_RANGE"),
        (SHOP_PATH, {"instances": [SHOP], "top_k": 3}, "MALFORMED_JSON"),
        (SHOP_PATH, {"instances": [SHOP], "inputs": {}}, "MALFORMED_JSON"),
        (SHOP_PATH, {"instances": SHOP}, "MALFORMED_JSON"),
        (SHOP_PATH, {"instances": [[0.0]]}, "MALFORMED_JSON"),
        (SHOP_PATH, {"instances": []}, "EMPTY_REQUEST"),
        (SHOP_PATH, {"inputs": {}}, "EMPTY_REQUEST"),
        (SHOP_PATH, {"inputs": {"event": [["visit"]], "minutes": [[0], [1]]}}, "MALFORMED_TENSOR"),
        (SHOP_PATH, {"inputs": {"event": "visit", "minutes": [[0]]}}, "MALFORMED_JSON"),
        (TEXT_PATH, {"instances": [{"texts": "two"}]}, "MALFORMED_JSON"),
        (TEXT_PATH, {"instances": ["x" * 300] * 300}, "TOO_MANY_ITEMS"),
        (TEXT_PATH, {"instances": ["x" * 70_000, 7]}, "MALFORMED_JSON"),
        (TEXT_PATH, {"inputs": {"text": [7]}}, "WRONG_TYPE"),
        (TEXT_PATH, {"inputs": {"words": ["two"]}}, "UNKNOWN_FEATURE"),
    ],
)
async def test_bodies_that_it_refuses(both: Both, path: str, body: Any, reason: str) -> None:
    refused = (await both.rest.post(path, json=body)).json()
    assert refused["reason"] == reason
    assert refused["error"]


async def test_bodies_are_told_apart_at_any_size(both: Both) -> None:
    """Rows are named outputs or, where there is but one input, plain values; large bodies are read alike."""
    ours = (await both.by_rest(predict()))[0]["predictions"][0]["heads"]
    label = ours["next_event"]["label"]
    blank = " " * 70_000
    for instances in ([SHOP], [SHOP] * 3):
        raw = f'{{"signature_name": "serving_default", {blank} "instances": {instances}}}'.replace("'", '"')
        headers = {"Content-Type": "application/json"}
        content = (await both.rest.post(SHOP_PATH, content=raw.encode(), headers=headers)).json()
        assert [row["next_event"] for row in content["predictions"]] == [label] * len(instances)
    plain = (await both.rest.post(TEXT_PATH, json={"instances": [TEXT]})).json()["predictions"]
    named = (await both.rest.post(TEXT_PATH, json={"instances": [{"text": TEXT}]})).json()["predictions"]
    assert plain[0]["text"] == named[0]["text"]
    bare = (await both.rest.post(TEXT_PATH, json={"inputs": [TEXT]})).json()["outputs"]
    assert bare["text"] == [plain[0]["text"]]


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain"])
async def test_no_content_type_is_asked_for_but_of_our_own_body(both: Both, kind: str | None) -> None:
    """The server looks at none: its pages call it by `curl -d`, which names a form's."""
    headers = {} if kind is None else {"Content-Type": kind}
    theirs = await both.rest.post(TEXT_PATH, content=b'{"instances": ["two"]}', headers=headers)
    assert theirs.status_code == 200
    for body in (b'{"sequences": []}', b"two=2"):
        refused = await both.rest.post(SHOP_PATH, content=body, headers=headers)
        assert (refused.status_code, refused.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
