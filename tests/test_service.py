"""The service as people start, call and stop it: the real command in its own process."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from seqserve.service.cli import COMMANDS
from tests.tfserving.reload import ModelServer, config_file

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PROGRAM = BIN / "seqserve"
HEAVY = {
    "keras",
    "tensorflow",
    "numpy",
    "fastapi",
    "httptools",
    "seqserve.models",
    "seqserve.service.settings",
}


@dataclass
class Service:
    """A started `seqserve serve`, and what it printed when it was ready."""

    process: subprocess.Popen[str]
    greeting: str

    @property
    def rest(self) -> str:
        """HOST:PORT of the REST door."""
        return re.search(r"REST on http://(\S+)", self.greeting)[1]  # type: ignore[index]

    @property
    def grpc(self) -> str:
        """HOST:PORT of the gRPC door."""
        return re.search(r"--address (\S+)", self.greeting)[1]  # type: ignore[index]


def start(root: Path, *options: str) -> Service:
    """Start the command on free ports and read what it prints until it is ready."""
    ports = ["--rest-port", "0", "--grpc-port", "0"]
    command = [str(PROGRAM), "serve", "--root", str(root), *ports, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.count("seqserve predict"):
            break
    return Service(process, "".join(lines))


def stop(service: Service) -> int:
    """Send SIGTERM and return the exit status."""
    service.process.send_signal(signal.SIGTERM)
    service.process.communicate(timeout=30)
    return service.process.returncode


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[Service]:
    """One service for the tests of this file; it must end well at SIGTERM."""
    started = start(root)
    yield started
    assert stop(started) == 0


def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, which .ci/run installs")
def test_the_printed_lines_work_when_pasted(service: Service) -> None:
    """Each curl and seqserve line of the greeting gives an answer, the same through both doors."""
    lines = [line for line in service.greeting.splitlines() if re.match(r"curl|\S*seqserve ", line)]
    assert len(lines) == 4
    answers = [run("bash", "-c", line) for line in lines]
    assert [answer.returncode for answer in answers] == [0] * 4
    by_rest, by_grpc, predicted, predicted_by_grpc = (answer.stdout for answer in answers)
    assert json.loads(by_rest)["translations"][0]["text"] == by_grpc.rstrip("\n")
    label = json.loads(predicted)["predictions"][0]["heads"]["next_event"]["label"]
    assert json.loads(predicted_by_grpc)["heads"]["next_event"]["label"] == label


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_the_command_line_calls_either_door(service: Service, door: str) -> None:
    """Model names may be left out, texts may come by stdin, an error is printed and ends with 1."""
    options = ["--address", getattr(service, door), *(["--grpc"] if door == "grpc" else [])]
    seqserve = str(PROGRAM)
    listed = run(seqserve, "models", *options)
    assert "en-de" in listed.stdout
    assert "ROUTABLE" in listed.stdout
    lines = run(seqserve, "translate", *options, stdin="two\nthree\n" * 70).stdout.splitlines()
    assert len(lines) == 140  # which is more than a request of the client's
    assert lines[:2] * 70 == lines
    whole = run(seqserve, "translate", *options, "--json", "--alignment", "twelve")
    assert json.loads(whole.stdout)["source_tokens"] == ["twelve"]
    journey = json.dumps({"event": ["visit"], "minutes": [0]})
    assert "next_event" in json.loads(run(seqserve, "predict", *options, journey).stdout)["heads"]
    refused = run(seqserve, "translate", *options, "--model", "nope", "two")
    assert (refused.returncode, "MODEL_NOT_FOUND" in refused.stderr) == (1, True)
    mixed = run(seqserve, "translate", *options, "two", "")
    assert (mixed.returncode, len(mixed.stdout.splitlines()), mixed.stdout[-2:]) == (1, 2, "\n\n")
    assert "EMPTY_TEXT" in mixed.stderr


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_the_client_page_and_the_example_run(service: Service, door: str) -> None:
    """What they say, by either door; the page needs ten lines."""
    address = {"rest": f"http://{service.rest}", "grpc": f"grpc://{service.grpc}"}[door]
    example = run(sys.executable, str(REPOSITORY / "examples" / "client.py"), address)
    assert (example.returncode, example.stderr) == (0, "")
    assert "TEXT_TOO_LONG" in example.stdout
    assert "as expected: EMPTY_TEXT" in example.stdout
    page = (REPOSITORY / "client" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    shown = run(sys.executable, "-c", code.replace("http://127.0.0.1:8000", address))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.count("Translation(text=") == 2


def test_inspect_shows_a_version_without_a_service(root: Path, tmp_path: Path) -> None:
    """The manifest is summed up; a folder that is no version is refused."""
    shown = run(str(PROGRAM), "inspect", str(root / "shop" / "1"))
    assert "shop/1" in shown.stdout
    assert "softmax per sequence" in shown.stdout
    assert "exported as" not in shown.stdout
    shutil.copytree(root / "shop" / "1", tmp_path / "orders" / "2")
    renamed = run(str(PROGRAM), "inspect", str(tmp_path / "orders" / "2"))
    assert "orders/2 (exported as shop/1)" in renamed.stdout
    assert run(str(PROGRAM), "inspect", str(tmp_path)).returncode == 1


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches(command: str) -> None:
    """Every command explains itself by an example; `serve` names each setting with its default."""
    from seqserve.service.settings import Settings

    shown = subprocess.run(
        [str(PROGRAM), *shlex.split(command), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    assert "Usage" in shown
    assert command == "" or f"Example: seqserve {command} " in shown
    if command == "serve":
        for name, setting in Settings.model_fields.items():
            assert f"SEQSERVE_{name.upper()}={setting.default}" in shown


def test_a_mistyped_command_is_guessed() -> None:
    """The table's names are offered without importing what they stand for."""
    mistyped = run(str(PROGRAM), "trian")
    assert mistyped.returncode == 2
    assert "Did you mean 'train'?" in mistyped.stderr


def test_calls_of_a_service_import_little(service: Service) -> None:
    """`seqserve models` waits for nothing that serving or training needs."""
    code = (
        "import sys; from seqserve.service.cli import app; app(standalone_mode=False); "
        f"print({HEAVY} & {{*sys.modules}})"
    )
    listed = run(sys.executable, "-c", code, "models", "--address", service.rest)
    assert "en-de" in listed.stdout
    assert listed.stdout.endswith("set()\n")


def test_training_commands_explain_themselves() -> None:
    """`python -m models` names its commands, and an error ends with 1 and a sentence."""
    shown = run(sys.executable, "-m", "models", "--help").stdout
    assert all(name in shown for name in ("train", "evaluate", "check", "publish", "demo"))
    failed = run(sys.executable, "-m", "models", "train", "nothing.toml", "--out", "x")
    assert failed.returncode == 1
    assert "nothing.toml" in failed.stderr


def test_sigterm_loses_nothing(root: Path) -> None:
    """Requests that are open when the signal comes are all answered, and the process ends with 0."""
    service = start(root)
    url = f"http://{service.rest}/v1/models/en-de:translate"
    body = json.dumps({"texts": ["Tuesday, November 24, 2026"] * 400}).encode()
    answered: list[int] = []
    sent = threading.Barrier(5)

    def ask() -> None:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        sent.wait()
        with urllib.request.urlopen(request, timeout=30) as response:
            answered.append(len(json.load(response)["translations"]))

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    sent.wait()
    seen = 0.0
    while seen < 4 and any(caller.is_alive() for caller in callers):
        seen = in_flight(service)
    assert seen > 0  # else nothing was open, and nothing is shown
    assert stop(service) == 0
    for caller in callers:
        caller.join()
    assert answered == [400] * 4


def test_a_second_signal_ends_it_without_waiting(tmp_path: Path) -> None:
    """In the middle of a lame duck that is far longer than the test; what is open is cut off."""
    command = [str(PROGRAM), "serve", "--root", str(tmp_path), "--rest-port", "0", "--grpc-port", "0"]
    patient = {**os.environ, "SEQSERVE_LAME_DUCK_SECONDS": "600"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=patient
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '"serving"' in line:
                process.send_signal(signal.SIGTERM)
            if '"leaving"' in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_a_full_disk_under_its_output_is_no_reason_not_to_serve(tmp_path: Path) -> None:
    """Nobody reads the greeting; the log says so, and the end is a good one."""
    command = [str(PROGRAM), "serve", "--root", str(tmp_path), "--rest-port", "0", "--grpc-port", "0"]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SEQSERVE_LAME_DUCK_SECONDS": "0"},
        ) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if "No space left on device" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert "draining" in process.stderr.read()
        assert process.wait(timeout=60) == 0


def in_flight(service: Service) -> float:
    """Read the gauge of open requests."""
    with urllib.request.urlopen(f"http://{service.rest}/metrics", timeout=30) as response:
        match = re.search(r'in_flight\{transport="rest"\} (\S+)', response.read().decode())
    return float(match[1]) if match else 0.0


LIBRARIES = (
    "cryptography.x509, fastapi.openapi.utils, grpc.aio, grpc_health.v1.health, "
    "grpc_reflection.v1alpha.reflection, httptools, jwt, numpy, orjson, prometheus_client, "
    "pydantic_settings, sentencepiece, uvloop"
)
"""Every library that the gateway imports before it serves."""


def test_the_gateway_imports_no_tensorflow_and_starts_fast() -> None:
    """A fresh interpreter imports it without tensorflow or keras, about as fast as its libraries.

    By processor time: other test processes may have the cores.
    """
    code = (
        "import time; start = time.process_time(); import seqserve.service.main, sys; "
        "print(time.process_time() - start, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    libraries = code.replace("seqserve.service.main", LIBRARIES)
    # as installed: with its byte code kept, which a machine's own settings may forbid
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    seen: dict[str, list[float]] = {code: [], libraries: []}
    for program in [code, libraries] * 5:
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env
        )
        seconds, tensorflow, keras = result.stdout.split()
        assert (tensorflow, keras) == ("False", "False")
        seen[program].append(float(seconds))
    ours, theirs = (min(seconds) for seconds in seen.values())
    assert ours <= max(0.6, 1.6 * theirs)  # on a slow machine, as slow as its libraries are there


def test_before_a_model_server_the_gateway_is_small(root: Path, model_server: ModelServer) -> None:
    """It idles below 120 MB resident, and no TensorFlow is mapped into it."""
    model_server.serve(config_file({"en-de": root / "en-de", "shop": root / "shop"}))
    service = start(root, "--tfserving", model_server.address, "--models", "en-de,shop")
    text = run(str(PROGRAM), "translate", "--address", service.rest, "--model", "en-de", "two")
    proc = Path("/proc") / str(service.process.pid)
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", (proc / "status").read_text())[1]) / 1000  # type: ignore[index]
    mapped = (proc / "maps").read_text()
    assert stop(service) == 0
    assert text.returncode == 0
    assert not any(name in mapped for name in ("tensorflow", "keras"))
    print(f"resident: {resident:.0f} MB")
    assert resident <= 120


def test_a_port_that_is_taken_is_named(service: Service, root: Path) -> None:
    """The command ends at once with 1 and says which address."""
    port = service.rest.rpartition(":")[2]
    command = [str(PROGRAM), "serve", "--root", str(root), "--rest-port", port, "--grpc-port", "0"]
    ended = run(*command)
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr
