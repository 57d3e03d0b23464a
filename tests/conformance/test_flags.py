"""What flags change: a second test server, started with them. Not run against a server that is elsewhere."""

import json
import shutil
import signal
import subprocess
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
from tests.conformance.roots import CONFIG
from tests.tfserving.process import Server, serving
from tests.tfserving.reload import config_file

METRICS = "/metrics/path"
SERVING = ":tensorflow:serving"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
THREADS, BATCH = 3, 8
OPENSSL = shutil.which("openssl")
ENDLESS = {"x": tensor([1])}
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
def server(tmp_path_factory: pytest.TempPathFactory, tls: tuple[bytes, bytes] | None) -> Iterator[Server]:
    """A server with batching, metrics, few threads, and TLS both ways; SIGTERM ends it at once."""
    root = tmp_path_factory.mktemp("flags")
    write_version(root / "demo", 1, whole=True, warmup="serving_default")
    flags = {"model_name": "demo", "model_base_path": root / "demo", "enable_batching": "true"}
    texts = {
        "batching_parameters_file": BATCHING,
        "monitoring_config_file": f'prometheus_config {{ enable: true, path: "{METRICS}" }}',
    }
    if tls is not None:
        key, cert = (json.dumps(pem.decode()) for pem in tls)
        fields = f"server_key: {key} server_cert: {cert} custom_ca: {cert} client_verify: true"
        texts["ssl_config_file"] = fields
    for flag, text in texts.items():
        (root / flag).write_text(text)
        flags[flag] = root / flag
    with serving(**flags, grpc_max_threads=THREADS) as server:
        yield server
        server.process.terminate()
        assert server.process.wait(5) == 128 + signal.SIGTERM


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
    """With batching on, a full batch is answered; a call for part of the outputs passes the batcher by."""
    assert entries(client.predict(Call(rows(BATCH), "rows")).outputs["sum"]) == [3.0] * BATCH
    assert entries(client.predict(Call({}, "manifest", outputs=("number",))).outputs["number"]) == [1]


def codes_of(client: Client, server: Server, call: Call, count: int) -> Counter[StatusCode]:
    """Make that many calls at once, and wait until the server has ended them too; count their codes."""
    ended = f'{SERVING}:request_count{{model_name="demo",status="DEADLINE_EXCEEDED"}}'
    before = samples(get(server, METRICS)).get(ended, 0)
    with ThreadPoolExecutor(count) as pool:
        errors = pool.map(lambda _: refusal(lambda: client.predict(call, seconds=1)), range(count))
        codes = Counter(error.code() for error in errors)
    expected = before + codes[StatusCode.DEADLINE_EXCEEDED]
    until(lambda: samples(get(server, METRICS)), lambda seen: seen.get(ended, 0) >= expected)
    return codes


def test_a_full_batching_queue_is_unavailable(client: Client, server: Server) -> None:
    """One runs, one waits, the next is UNAVAILABLE at once."""
    codes = codes_of(client, server, Call(ENDLESS, "endless"), 3)
    assert codes == {StatusCode.DEADLINE_EXCEEDED: 2, StatusCode.UNAVAILABLE: 1}


def test_a_call_beyond_the_threads_is_refused(client: Client, server: Server) -> None:
    """There is no queue: with every thread busy, a call is RESOURCE_EXHAUSTED at once."""
    codes = codes_of(client, server, Call(ENDLESS, "endless", outputs=("y",)), THREADS + 1)
    assert codes == {StatusCode.DEADLINE_EXCEEDED: THREADS, StatusCode.RESOURCE_EXHAUSTED: 1}


def test_metrics_have_their_names(client: Client, server: Server) -> None:
    """Requests are counted by model and status, latencies are in microseconds, and warm-ups are timed."""
    refusal(lambda: client.predict(Call(signature="zzz")))
    before = samples(get(server, METRICS))
    client.predict(Call())
    refusal(lambda: client.predict(Call(signature="zzz")))
    after = samples(get(server, METRICS))

    def grown(sample: str) -> float:
        return after[sample] - before.get(sample, 0)

    assert grown(f'{SERVING}:request_count{{model_name="demo",status="OK"}}') == 1
    assert grown(f'{SERVING}:request_count{{model_name="demo",status="FAILED_PRECONDITION"}}') == 1
    for name, third in (("request_latency", 'entrypoint="GRPC"'), ("runtime_latency", 'runtime="TF1"')):
        labels = f'model_name="demo",API="Predict",{third}'
        assert grown(f"{SERVING}:{name}_count{{{labels}}}") == 1
        assert grown(f'{SERVING}:{name}_bucket{{{labels},le="+Inf"}}') == 1
        assert f'{SERVING}:{name}_bucket{{{labels},le="188.957"}}' in after
        assert 10 < grown(f"{SERVING}:{name}_sum{{{labels}}}") < 20e6
    assert [v for k, v in after.items() if k.startswith(f"{SERVING}:model_warmup_latency_count")] == [1]
    loads = [k for k in after if k.startswith(":tensorflow:cc:saved_model:load_attempt_count")]
    assert len(loads) == 1
    assert 'status="success"' in loads[0]


def samples(text: str) -> dict[str, float]:
    """Return the samples by name and labels."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_rest_tells_a_models_status(server: Server) -> None:
    """GET /v1/models/NAME lists the versions, and is 404 for a model that is unknown."""
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert json.loads(get(server, "/v1/models/demo")) == {"model_version_status": [status]}
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        get(server, "/v1/models/nope")
    with caught.value as error:
        assert json.loads(error.read()) == {"error": "Could not find any versions of model nope"}


def test_a_new_configuration_moves_labels(client: Client, server: Server) -> None:
    """HandleReloadConfigRequest takes labels, and refuses relative paths."""
    assert refusal(lambda: client.number(label="stable")).code() is StatusCode.INVALID_ARGUMENT
    flags = dict(flag.split("=", 1) for flag in server.process.args if "=" in flag)
    request = model_management_pb2.ReloadConfigRequest()
    entry = request.config.model_config_list.config.add(name="demo", model_platform="tensorflow")
    entry.version_labels["stable"] = 1
    entry.base_path = "relative/path"
    error = refusal(lambda: client.raw(RELOAD, request.SerializeToString()))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert error.details().endswith("to have an absolute path or URI; got base_path()=relative/path")
    entry.base_path = flags["--model_base_path"]
    client.raw(RELOAD, request.SerializeToString())
    response = client.predict(Call({}, "manifest", label="stable", outputs=("number",)))
    assert response.model_spec.version.value == 1


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

    def becomes(self, wanted: int | StatusCode, **spec: Any) -> None:
        """Ask until it is so."""
        until(lambda: self.answered(**spec), lambda answer: answer == wanted)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    """A server with --model_config_file_poll_wait_seconds; `demo` has versions 1 and 2, `late` has 1."""
    root = tmp_path_factory.mktemp("followed")
    for model, number in (("demo", 1), ("demo", 2), ("late", 1)):
        write_version(root / model, number)
    (root / CONFIG).write_text(str(config_file({"demo": root / "demo"}, latest=99)))
    with (
        serving(root / CONFIG, model_config_file_poll_wait_seconds=0.05) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield Followed(Client(channel), root)


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


@pytest.mark.parametrize("text", ["", "model_config_list {", None], ids=["empty", "cut short", "missing"])
def test_a_file_that_cannot_be_read_changes_nothing(followed: Followed, text: str | None) -> None:
    """A file caught half written, or gone, leaves what is served as it was; the next good one is taken."""
    followed.write("demo", stable=1)
    followed.becomes(1, label="stable")
    if text is None:
        (followed.root / CONFIG).unlink()
    else:
        (followed.root / CONFIG).write_text(text)
    new = max(followed.client.versions("demo")) + 1
    write_version(followed.root / "demo", new)  # takes longer than some looks at the file
    followed.becomes(new)
    assert followed.answered(label="stable") == 1
    followed.write("demo", stable=2)
    followed.becomes(2, label="stable")


def test_labels_need_their_flag_at_the_start(model_root: Path) -> None:
    """A first configuration cannot label a version that is not loaded yet: the server does not start."""
    told = "version . of model demo, which is not currently available for inference"
    config = model_root / "models.config"
    with (
        pytest.raises(RuntimeError, match=told),
        serving(config, allow_version_labels_for_unavailable_models=False),
    ):
        raise AssertionError("it started")


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
