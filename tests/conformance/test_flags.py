"""What flags change: servers started with them, by SEQSERVE_TEST_TFSERVING_COMMAND where that is given."""

import json
import os
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tensorflow_serving.apis import model_management_pb2

from tests.conformance.calls import Call, Client, entries, refusal, tensor, until
from tests.conformance.modules import write_version
from tests.conformance.roots import COMMAND, CONFIG
from tests.tfserving.process import Server, serving
from tests.tfserving.reload import config_file

METRICS = "/metrics/path"
SERVING = ":tensorflow:serving"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
THREADS, BATCH = 3, 8
FOLLOWING: dict[str, object] = {"model_config_file_poll_wait_seconds": 0.05, "grpc_max_threads": THREADS}
OPENSSL = shutil.which("openssl")
ENDLESS = {"x": tensor([1])}
TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""How a process ends by SIGTERM: killed by it, or, as process 1 of a container, by its own exit."""
BATCHING = f"""
max_batch_size {{ value: {BATCH} }}
num_batch_threads {{ value: 1 }}
max_enqueued_batches {{ value: 1 }}
"""


def certificate(folder: Path) -> tuple[bytes, bytes]:
    """Make a key and a certificate for localhost, signed by itself."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = f"{OPENSSL} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *name, *files], check=True, capture_output=True)
    return key.read_bytes(), cert.read_bytes()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes] | None:
    """A key and a certificate, for the server and for its client; none where nothing can make them."""
    return certificate(tmp_path_factory.mktemp("tls")) if OPENSSL else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder."""
    model = tmp_path_factory.mktemp("flags") / "demo"
    write_version(model, 1, whole=True, warmup="serving_default")
    return model


@pytest.fixture(scope="module")
def server(folder: Path, tls: tuple[bytes, bytes] | None) -> Iterator[Server]:
    """A server with batching, metrics, and TLS both ways; SIGTERM ends it at once."""
    flags = {"model_name": "demo", "model_base_path": folder, "enable_batching": True}
    texts = {
        "batching_parameters_file": BATCHING,
        "monitoring_config_file": f'prometheus_config {{ enable: true, path: "{METRICS}" }}',
    }
    if tls is not None:
        key, cert = (json.dumps(pem.decode()) for pem in tls)
        fields = f"server_key: {key} server_cert: {cert} custom_ca: {cert} client_verify: true"
        texts["ssl_config_file"] = fields
    for flag, text in texts.items():
        flags[flag] = folder.with_name(flag)
        folder.with_name(flag).write_text(text)
    with serving(command=os.environ.get(COMMAND, ""), **flags) as server:
        yield server
        server.process.terminate()
        assert server.process.wait(5) in TERMINATED


@pytest.fixture(scope="module")
def client(server: Server, tls: tuple[bytes, bytes] | None) -> Iterator[Client]:
    """Calls to it."""
    if tls is None:
        channel = grpc.insecure_channel(server.address)
    else:
        port = server.address.rpartition(":")[2]
        credentials = grpc.ssl_channel_credentials(tls[1], *tls)
        channel = grpc.secure_channel(f"localhost:{port}", credentials)
    with channel:
        yield Client(channel)


def get(server: Server, path: str) -> str:
    """Read from the REST port."""
    with urllib.request.urlopen(f"http://{server.rest}{path}", timeout=5) as response:
        return response.read().decode()


def rows(count: int) -> dict[str, object]:
    """Return `count` rows."""
    return {"x": tensor(np.ones((count, 3)))}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call({}, "manifest"), "Batching Run() must have at least one input tensor"),
        (
            Call({"a": tensor([1]), "b": tensor([1, 2])}),
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        (
            Call({"a": tensor(1), "b": tensor([1])}),
            "Batching Run() input tensors must have at least one dimension",
        ),
        (Call(rows(BATCH + 1), "rows"), "Task size 9 is larger than maximum input batch size 8"),
    ],
    ids=["no inputs", "unequal rows", "scalar", "too many rows"],
)
def test_batching_refuses_what_has_no_rows(client: Client, call: Call, message: str) -> None:
    """With batching on, a call has one number of rows, from 1 to the largest batch."""
    error = refusal(lambda: client.predict(call))
    assert (error.code(), error.details()) == (StatusCode.INVALID_ARGUMENT, message)


def test_batching_runs_what_has_rows(client: Client) -> None:
    """With batching on, a full batch is answered, and so is a call for part of the outputs."""
    assert entries(client.predict(Call(rows(BATCH), "rows")).outputs["sum"]) == [3.0] * BATCH
    response = client.predict(Call({"x": tensor([-1])}, "endless", outputs=("y",)))
    assert {name: entries(output) for name, output in response.outputs.items()} == {"y": [-1.0]}


def test_batching_takes_calls_for_part_of_the_outputs_too(client: Client) -> None:
    """To ask for less is no way around the batching: what has no rows is refused as before."""
    error = refusal(lambda: client.predict(Call({}, "manifest", outputs=("number",))))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert error.details() == "Batching Run() must have at least one input tensor"


def test_a_full_batching_queue_is_unavailable(client: Client, server: Server) -> None:
    """With one full batch that runs and one that waits, a call is UNAVAILABLE at once.

    The one that waits longer than its deadline counts as RESOURCE_EXHAUSTED at the server.
    """
    full = Call({"x": tensor(np.ones(BATCH))}, "endless")
    before, answered = counts(server), Counter[StatusCode]()
    done = threading.Event()

    def occupy() -> None:
        while not done.is_set():
            error = refusal(lambda: client.predict(full, seconds=1))
            answered[error.code()] += 1

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(occupy) for _ in range(3)]
        try:
            until(lambda: dict(answered), lambda codes: codes.get(StatusCode.UNAVAILABLE, 0) > 0)
            until(lambda: grown(server, before), lambda codes: codes["RESOURCE_EXHAUSTED"] > 0)
        finally:
            done.set()
        for caller in callers:
            caller.result()
    assert set(answered) <= {
        StatusCode.UNAVAILABLE,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.RESOURCE_EXHAUSTED,  # which of the two the caller of a waiting one sees is a race
    }
    until(lambda: grown(server, before).total(), lambda ended: ended == answered.total())


def counts(server: Server) -> Counter[str]:
    """Return how many calls of `demo` the server has ended, by code."""
    name = f'{SERVING}:request_count{{model_name="demo",status="'
    seen = samples(get(server, METRICS))
    return Counter({k[len(name) : -2]: int(v) for k, v in seen.items() if k.startswith(name)})


def grown(server: Server, before: Counter[str]) -> Counter[str]:
    """Return how many it has ended since."""
    return counts(server) - before


def test_metrics_have_their_names(client: Client, server: Server) -> None:
    """Requests are counted by model and status, latencies are in microseconds, and warm-ups are timed."""
    refusal(lambda: client.predict(Call(signature="zzz")))
    before = samples(get(server, METRICS))
    client.predict(Call())
    refusal(lambda: client.predict(Call(signature="zzz")))
    after = samples(get(server, METRICS))

    def more(sample: str) -> float:
        return after[sample] - before.get(sample, 0)

    assert more(f'{SERVING}:request_count{{model_name="demo",status="OK"}}') == 1
    assert more(f'{SERVING}:request_count{{model_name="demo",status="FAILED_PRECONDITION"}}') == 1
    for name, third in (("request_latency", 'entrypoint="GRPC"'), ("runtime_latency", 'runtime="TF1"')):
        labels = f'model_name="demo",API="Predict",{third}'
        assert more(f"{SERVING}:{name}_count{{{labels}}}") == 1
        assert more(f'{SERVING}:{name}_bucket{{{labels},le="+Inf"}}') == 1
        assert f'{SERVING}:{name}_bucket{{{labels},le="188.957"}}' in after
        assert 10 < more(f"{SERVING}:{name}_sum{{{labels}}}") < 20e6
    assert [v for k, v in after.items() if k.startswith(f"{SERVING}:model_warmup_latency_count")] == [1]
    loads = [k for k in after if k.startswith(":tensorflow:cc:saved_model:load_attempt_count")]
    assert len(loads) == 1
    assert 'status="success"' in loads[0]


def samples(text: str) -> dict[str, float]:
    """Return the samples by name and labels."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_rest_lists_a_models_status(server: Server) -> None:
    """GET /v1/models/NAME lists the versions, and is 404 for a model that is unknown."""
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert json.loads(get(server, "/v1/models/demo")) == {"model_version_status": [status]}
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        get(server, "/v1/models/nope")
    with caught.value as error:
        assert json.loads(error.read()) == {"error": "Could not find any versions of model nope"}


def test_a_new_configuration_moves_labels(client: Client, folder: Path) -> None:
    """HandleReloadConfigRequest takes labels, and refuses relative paths."""
    assert refusal(lambda: client.predict(Call(label="stable"))).code() is StatusCode.INVALID_ARGUMENT
    request = model_management_pb2.ReloadConfigRequest()
    entry = request.config.model_config_list.config.add(name="demo", model_platform="tensorflow")
    entry.version_labels["stable"] = 1
    entry.base_path = "relative/path"
    error = refusal(lambda: client.raw(RELOAD, request.SerializeToString()))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert error.details().endswith("to have an absolute path or URI; got base_path()=relative/path")
    entry.base_path = str(folder)
    client.raw(RELOAD, request.SerializeToString())
    assert client.predict(Call(label="stable")).model_spec.version.value == 1


@dataclass(frozen=True)
class Followed:
    """A server that reads its configuration file again and again, and what it reads."""

    client: Client
    root: Path

    def write(self, *models: str, **labels: int) -> None:
        """Edit the file: these models, and labels of `demo`."""
        config = config_file({name: self.root / name for name in models}, latest=99)
        config.model_config_list.config[0].version_labels.update(labels)
        (self.root / CONFIG).write_text(str(config))

    def answered(self, **spec: Any) -> int | StatusCode:
        """Return the number of the version that answers, or the code of the refusal."""
        try:
            return self.client.number(**spec)
        except grpc.RpcError as error:
            return error.code()

    def looks(self) -> None:
        """Have the server look at the file some times: it does while new versions of `demo` come."""
        for _ in range(2):
            new = max(self.client.versions("demo")) + 1
            write_version(self.root / "demo", new)
            self.becomes(new)

    def becomes(self, wanted: int | StatusCode, **spec: Any) -> None:
        """Ask until it is so."""
        until(lambda: self.answered(**spec), lambda answer: answer == wanted)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    """A server that follows its file, with few threads: `demo` has two versions, `late` one, `empty` none."""
    root = tmp_path_factory.mktemp("followed")
    (root / "empty").mkdir()
    for model, number in (("demo", 1), ("demo", 2), ("late", 1)):
        write_version(root / model, number)
    (root / CONFIG).write_text(str(config_file({"demo": root / "demo"}, latest=99)))
    with (
        serving(root / CONFIG, os.environ.get(COMMAND, ""), **FOLLOWING) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield Followed(Client(channel), root)


def test_a_call_beyond_the_threads_is_refused(followed: Followed) -> None:
    """Of N threads one waits for calls: while N - 1 are answered, the next is RESOURCE_EXHAUSTED at once."""
    long = Call({"steps": tensor(2**31 - 1, "int32")}, "slow")
    with ThreadPoolExecutor(THREADS) as pool:
        errors = pool.map(lambda _: refusal(lambda: followed.client.predict(long, seconds=1)), range(THREADS))
        codes = Counter(error.code() for error in errors)
    assert codes == {StatusCode.DEADLINE_EXCEEDED: THREADS - 1, StatusCode.RESOURCE_EXHAUSTED: 1}
    until(lambda: followed.answered(), lambda answer: answer == 2)  # when the server has ended them too


def test_an_edited_file_moves_a_label(followed: Followed) -> None:
    """A label goes to another version without a restart and without a call, and back."""
    for number in (2, 1):
        followed.write("demo", stable=number)
        followed.becomes(number, label="stable")


def test_a_label_waits_for_its_version(followed: Followed) -> None:
    """A file that moves a label to a version not loaded is refused whole, and taken once that is loaded."""
    followed.write("demo", stable=1)
    followed.becomes(1, label="stable")
    new = max(followed.client.versions("demo")) + 1
    followed.write("demo", "late", stable=new)
    assert followed.answered(label="stable") == 1
    assert followed.answered(model="late") is StatusCode.NOT_FOUND
    write_version(followed.root / "demo", new)
    followed.becomes(new, label="stable")
    followed.becomes(1, model="late")


def test_an_edited_file_brings_and_takes_models(followed: Followed) -> None:
    """A model written into the file is served, one taken out is unloaded."""
    followed.write("demo", "late")
    followed.becomes(1, model="late")
    followed.write("demo")
    followed.becomes(StatusCode.NOT_FOUND, model="late")


def test_a_model_without_a_version_freezes_the_file(followed: Followed) -> None:
    """Named in the file, it keeps every edit from being taken, its removal too, until it has a version."""
    followed.write("demo", stable=1)
    followed.becomes(1, label="stable")
    followed.write("demo", "empty", stable=1)
    followed.looks()
    for models in (("demo", "empty"), ("demo",)):
        followed.write(*models, stable=2)
        followed.looks()
        assert followed.answered(label="stable") == 1
    write_version(followed.root / "empty", 1)
    followed.becomes(2, label="stable")
    followed.becomes(StatusCode.NOT_FOUND, model="empty")


@pytest.mark.parametrize("text", ["", "model_config_list {", None], ids=["empty", "cut short", "missing"])
def test_a_file_that_cannot_be_read_changes_nothing(followed: Followed, text: str | None) -> None:
    """A file caught half written, or gone, leaves what is served as it was; the next good one is taken."""
    followed.write("demo", stable=1)
    followed.becomes(1, label="stable")
    if text is None:
        (followed.root / CONFIG).unlink()
    else:
        (followed.root / CONFIG).write_text(text)
    followed.looks()
    assert followed.answered(label="stable") == 1
    followed.write("demo", stable=2)
    followed.becomes(2, label="stable")


if OPENSSL:

    def test_tls_wants_a_certificate(server: Server, tls: tuple[bytes, bytes]) -> None:
        """With TLS both ways, neither a plain channel nor one without a certificate of its own gets in."""
        port = server.address.rpartition(":")[2]
        bare = grpc.ssl_channel_credentials(tls[1])
        channels = [
            grpc.insecure_channel(server.address),
            grpc.secure_channel(f"localhost:{port}", bare),
        ]
        for channel in channels:
            with channel:
                error = refusal(lambda channel=channel: Client(channel).predict(Call(), seconds=3))
                assert error.code() is StatusCode.UNAVAILABLE
