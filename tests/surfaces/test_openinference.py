"""The Open Inference Protocol by clients of Triton's and of KServe's, and what it refuses."""

import struct
from typing import Any

import grpc
import pytest

from seqserve.openinference import inference_pb2 as pb
from tests.clients import said_by
from tests.doors import SHOP, TEXT, Both, predict, reason_of, translate

pytestmark = pytest.mark.asyncio(loop_scope="module")
TRITON = """
import numpy as np
from tritonclient import grpc, http
from tritonclient.utils import InferenceServerException
told = {}
for name, kind, port in (("http", http, ports[0]), ("grpc", grpc, ports[1])):
    client = kind.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("shop") and client.is_model_ready("shop", "1")
    assert not client.is_model_ready("shop", "7") if kind is http else True
    about = client.get_model_metadata("shop")
    inputs = about["inputs"] if kind is http else about.inputs
    names = [one["name"] if kind is http else one.name for one in inputs]

    def tensor(name, values, datatype):
        made = kind.InferInput(name, values.shape, datatype)
        made.set_data_from_numpy(values)
        return made

    text = tensor("text", np.array([%r.encode()], object), "BYTES")
    shop = [
        tensor("event", np.array([[b"visit", b"search"]], object), "BYTES"),
        tensor("minutes", np.array([[0, 1.5]], np.float32), "FP32"),
    ]
    label = client.infer("shop", shop, request_id="mine", parameters={"top_k": 2})
    try:
        client.infer("nope", [text])
    except InferenceServerException as error:
        fault = error.message()
    told[name] = {
        "inputs": names,
        "text": client.infer("en-de", [text]).as_numpy("text").tolist()[0].decode(),
        "label": label.as_numpy("next_event").tolist()[0].decode(),
        "top": [one.decode() for one in label.as_numpy("next_event.top").tolist()[0]],
        "probability": label.as_numpy("next_event.probability").tolist()[0],
        "id": label.get_response()["id"] if kind is http else label.get_response().id,
        "fault": fault,
    }
print(json.dumps(told))
"""
KSERVE = """
import asyncio
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

def asked(is_binary):
    made = InferInput("text", [1], "BYTES")
    made.set_data_from_numpy(np.array([%r.encode()], object), binary_data=is_binary)
    return InferRequest("en-de", [made])

async def main():
    rest, base = InferenceRESTClient(RESTConfig(protocol="v2")), f"http://127.0.0.1:{ports[0]}"
    rpc = InferenceGRPCClient(f"127.0.0.1:{ports[1]}")
    assert await rest.is_server_live(base) and await rest.is_server_ready(base)
    assert await rest.is_model_ready(base, "en-de") and not await rest.is_model_ready(base, "nope")
    assert await rpc.is_server_live() and await rpc.is_server_ready() and await rpc.is_model_ready("en-de")
    answers = [
        *[await rest.infer(base, asked(is_binary), model_name="en-de") for is_binary in (False, True)],
        *[await rpc.infer(asked(is_binary)) for is_binary in (False, True)],
    ]
    texts = [answer.outputs[0].as_numpy().tolist()[0] for answer in answers]
    print(json.dumps([text.decode() if isinstance(text, bytes) else text for text in texts]))
    await rest.close()
    await rpc.close()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_tritonclient(both: Both) -> None:
    """By HTTP, which sends contents raw, and by gRPC: ready, metadata, infer, and a refusal in words."""
    told = await said_by(TRITON % TEXT, both.started.rest_port, both.started.grpc_port)
    text = (await both.by_rest(translate()))[0]["translations"][0]["text"]
    head = (await both.by_rest(predict(top_k=2)))[0]["predictions"][0]["heads"]["next_event"]
    for door in ("http", "grpc"):
        assert told[door]["inputs"] == ["event", "minutes"]
        assert told[door]["text"] == text
        assert told[door]["label"] == head["label"]
        assert told[door]["top"] == [one["label"] for one in head["top"]]
        assert told[door]["probability"] == pytest.approx(head["probability"], abs=1e-5)
        assert told[door]["id"] == "mine"
        assert "no model 'nope'" in told[door]["fault"]


@pytest.mark.slow
async def test_kserve_client(both: Both) -> None:
    """By REST and gRPC, each with listed and with raw contents."""
    told = await said_by(KSERVE % TEXT, both.started.rest_port, both.started.grpc_port)
    assert told == [(await both.by_rest(translate()))[0]["translations"][0]["text"]] * 4


def one(**changes: Any) -> dict[str, Any]:
    """Return a request of one text, changed."""
    return {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT], **changes}


RAW = struct.pack("<I", 3) + b"two"
BODIES: list[tuple[dict[str, Any], str]] = [
    ({"inputs": []}, "MALFORMED_JSON"),
    ({"inputs": [7]}, "MALFORMED_JSON"),
    ({"inputs": [{"name": "text"}]}, "MALFORMED_JSON"),
    ({"inputs": [one(data=None)]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(), one()]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(datatype="STRING")]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(shape=[2])]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(shape=[-1])]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(data=[7])]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(datatype="FP32")]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(datatype="INT64", data=[10**30])]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(parameters={"binary_data_size": 9})]}, "MALFORMED_TENSOR"),
    ({"inputs": [one(parameters={"shared_memory_region": "x"})]}, "UNSUPPORTED"),
    ({"inputs": [one(datatype="INT32", data=[7])]}, "WRONG_TYPE"),
    ({"inputs": [one()], "parameters": {"sequence_id": 7}}, "UNSUPPORTED"),
    ({"inputs": [one()], "parameters": {"beam": 7}}, "OPTION_OUT_OF_RANGE"),
    ({"inputs": [one()], "parameters": {"beam_size": "many"}}, "OPTION_OUT_OF_RANGE"),
    ({"inputs": [one()], "parameters": {"beam_size": 99}}, "OPTION_OUT_OF_RANGE"),
    ({"inputs": [one()], "outputs": [{"name": "nope"}]}, "UNKNOWN_HEAD"),
    ({"inputs": [one()], "outputs": [{"name": "text", "parameters": {"classification": 3}}]}, "UNSUPPORTED"),
    ({"inputs": [one(data=["x" * 70_000], shape=[1])]}, "TEXT_TOO_LONG"),
]


@pytest.mark.parametrize(("body", "reason"), BODIES)
async def test_bodies_that_it_refuses(both: Both, body: dict[str, Any], reason: str) -> None:
    refused = (await both.rest.post("/v2/models/en-de/infer", json=body)).json()
    assert refused["reason"] == reason
    assert refused["error"]


@pytest.mark.parametrize(
    ("length", "size", "behind", "reason"),
    [
        ("nine", 7, RAW, "MALFORMED_JSON"),
        ("999999", 7, RAW, "MALFORMED_JSON"),
        (None, 7, RAW[:5], "MALFORMED_TENSOR"),
        (None, 7, RAW + b"x", "MALFORMED_TENSOR"),
        (None, -1, b"", "MALFORMED_TENSOR"),
        (None, 7, b"\xff\xff\xff\xfftwo", "MALFORMED_TENSOR"),
        (None, 7, struct.pack("<I", 3) + b"\xff\xff\xff", "MALFORMED_TENSOR"),
        (None, 3, b"two", "MALFORMED_TENSOR"),
    ],
)
async def test_contents_behind_the_json_that_it_refuses(
    both: Both, length: str | None, size: int, behind: bytes, reason: str
) -> None:
    tensor = (
        f'{{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {{"binary_data_size": {size}}}}}'
    )
    head = f'{{"inputs": [{tensor}]}}'.encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    refused = await both.rest.post("/v2/models/en-de/infer", content=head + behind, headers=headers)
    assert refused.json()["reason"] == reason


async def test_options_and_outputs_are_chosen(both: Both) -> None:
    """Parameters are options of our own body; outputs are those named; large bodies are read alike."""
    body = {
        "inputs": [one()],
        "parameters": {"beam_size": 3, "n_best": 3},
        "outputs": [{"name": "alternatives"}],
        "id": "x" * 70_000,
    }
    answer = (await both.rest.post("/v2/models/en-de/versions/1/infer", json=body)).json()
    ours = (await both.by_rest(translate(beam_size=3, n_best=3)))[0]["translations"][0]
    (output,) = answer["outputs"]
    assert output["data"] == [other["text"] for other in ours["alternatives"]]
    assert output["shape"] == [1, 2]
    assert answer["id"] == body["id"]
    bare = {"event": SHOP["event"] * 8, "minutes": [0.0] * 16}
    inputs = [
        {"name": "event", "datatype": "BYTES", "shape": [1, 16], "data": bare["event"]},
        {"name": "minutes", "datatype": "INT64", "shape": [1, 16], "data": [[0] * 16]},
    ]
    padded = [
        {"name": "event", "datatype": "BYTES", "shape": [1, 4], "data": [*SHOP["event"], "", ""]},
        {"name": "minutes", "datatype": "FP32", "shape": [1, 4], "data": [*SHOP["minutes"], 0, 0]},
    ]
    lengths = {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [2]}
    for tensors, sequence in (
        (inputs, bare),
        (padded, SHOP),
        ([*inputs, lengths], {name: bare[name][:2] for name in bare}),
    ):
        found = (await both.rest.post("/v2/models/shop/infer", json={"inputs": tensors})).json()
        told = {output["name"]: output["data"] for output in found["outputs"]}
        wanted = (await both.by_rest(predict(sequences=[sequence])))[0]["predictions"][0]["heads"]
        assert told["minutes_to_next"] == [pytest.approx(wanted["minutes_to_next"]["value"], rel=1e-4)]
    padded[1]["data"] = [*SHOP["minutes"], 0, 1]  # the last step is none that fills up
    refused = await both.rest.post("/v2/models/shop/infer", json={"inputs": padded})
    assert refused.json()["reason"] == "UNEQUAL_LENGTHS"


async def test_whole_and_model_are_told(both: Both) -> None:
    """Metadata names what infer takes and gives; of what is not there the reason stands in the error."""
    about = (await both.rest.get("/v2/models/shop")).json()
    shapes = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in about["inputs"]}
    assert shapes == {"event": ("BYTES", [-1, -1]), "minutes": ("FP64", [-1, -1])}
    assert (about["versions"], about["name"]) == (["1"], "shop")
    assert (await both.rest.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
    for path, reason in (
        ("nope", "MODEL_NOT_FOUND"),
        ("shop/versions/7/ready", "VERSION_NOT_FOUND"),
        ("shop/versions/x", "VERSION_NOT_FOUND"),
        ("shop/stats", "ROUTE_NOT_FOUND"),
    ):
        refused = await both.rest.get(f"/v2/models/{path}")
        assert (refused.status_code, refused.json()["reason"]) == (404, reason)
        assert refused.json()["error"]
    both.started.gateway._draining = True
    for path in ("health/ready", "models/shop/ready"):
        assert (await both.rest.get(f"/v2/{path}")).status_code == 503
    both.started.gateway._draining = False


@pytest.mark.parametrize(
    "request_",
    [
        pb.ModelInferRequest(inputs=[{"name": "text", "datatype": "BYTES", "shape": [1]}]),
        pb.ModelInferRequest(
            inputs=[{"name": "text", "datatype": "BYTES", "shape": [1]}], raw_input_contents=[RAW, RAW]
        ),
        pb.ModelInferRequest(
            inputs=[{"name": "text", "datatype": "BYTES", "shape": [2**40]}], raw_input_contents=[RAW]
        ),
        pb.ModelInferRequest(
            inputs=[{"name": "text", "datatype": "FP32", "shape": [2**40]}], raw_input_contents=[RAW + b"x"]
        ),
        pb.ModelInferRequest(inputs=[{"name": "text", "datatype": "FP16", "shape": [1]}]),
    ],
)
async def test_messages_that_do_not_fit(both: Both, request_: pb.ModelInferRequest) -> None:
    request_.model_name = "en-de"
    call = both.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request_.SerializeToString(), timeout=20)
    assert reason_of(caught.value) == "MALFORMED_TENSOR"
