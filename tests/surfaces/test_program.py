"""The clients of every surface call the program that `make serve` starts, side by side."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.clients import said_by
from tests.doors import TEXT
from tests.rest.surfaces.test_libretranslate import SCRIPT as LIBRETRANSLATE
from tests.surfaces.test_openinference import KSERVE, TRITON
from tests.test_service import Service, start, stop

pytestmark = pytest.mark.slow


@pytest.fixture
def service(root: Path) -> Iterator[Service]:
    """The program, in a process of its own."""
    started = start(root)
    yield started
    assert stop(started) == 0


def posted(service: Service, path: str, body: dict[str, Any], **headers: str) -> Any:
    """Return what a body is answered; it leaves as a form's if no header says what it is."""
    request = urllib.request.Request(f"http://{service.rest}{path}", json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))


def served(service: Service) -> list[str]:
    """Ask by TensorFlow Serving's own stub and in its JSON."""
    request = predict_pb2.PredictRequest(inputs={"text": make_tensor_proto([TEXT])})
    request.model_spec.name = "en-de"
    with grpc.insecure_channel(service.grpc) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
    by_rest = posted(service, "/v1/models/en-de:predict", {"instances": [TEXT]})["predictions"]
    return [make_ndarray(answer.outputs["text"])[0].decode(), by_rest[0]["text"]]


def test_every_client_gets_our_own_answer(service: Service) -> None:
    ports = [int(door.rpartition(":")[2]) for door in (service.rest, service.grpc)]

    async def asked() -> list[Any]:
        scripts = (LIBRETRANSLATE % TEXT, TRITON % TEXT, KSERVE % TEXT)
        return await asyncio.gather(*(said_by(script, *ports) for script in scripts))

    libretranslate, triton, kserve = asyncio.run(asked())
    texts = [libretranslate["text"], triton["http"]["text"], triton["grpc"]["text"], *kserve]
    kind = {"Content-Type": "application/json"}
    ours = posted(service, "/v1/models/en-de:translate", {"texts": [TEXT]}, **kind)["translations"][0]
    assert [*texts, *served(service)] == [ours["text"]] * 9
