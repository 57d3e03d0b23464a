"""The Docker engine, the composition and its base images, for compose_test.py.

Images that cannot be pulled are made here under the names that the files ask for, and the output says so: the
Python base by debootstrap, Debian's Prometheus, and in TensorFlow Serving's place the project's test server.
"""

import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PROJECT = "seqserve-test"
TAG = "compose-test"
PORTS = ("REST_PORT", "GRPC_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
BEGAN = time.monotonic()


class Failed(Exception):
    """The test failed; the message is for the person who ran it."""


def say(text: str) -> None:
    """Print a line, with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {text}", flush=True)


def require(holds: bool, text: str) -> None:
    """Print what holds, or fail with it."""
    if not holds:
        raise Failed(f"not so: {text}")
    say(f"ok: {text}")


def run(*command: str, seconds: float = 60, show: bool = False, **options: Any) -> str:
    """Run a command to its end and return what it printed; its output goes to the terminal if `show`."""
    pipe = None if show else subprocess.PIPE
    try:
        done = subprocess.run(command, stdout=pipe, stderr=pipe, text=True, timeout=seconds, **options)
    except subprocess.TimeoutExpired:
        raise Failed(f"{shlex.join(command)}: not done in {seconds:.0f} s") from None
    if done.returncode:
        printed = "\n".join(((done.stdout or "") + (done.stderr or "")).splitlines()[-30:])
        raise Failed(f"{shlex.join(command)}: exit {done.returncode}\n{printed}")
    return done.stdout or ""


def docker(*arguments: str, seconds: float = 60, **options: Any) -> str:
    """Run `docker …`."""
    return run("docker", *arguments, seconds=seconds, **options).strip()


def waited(what: str, probe: Callable[[], Any], seconds: float) -> Any:
    """Call `probe` until it returns something true, and return that; says every 10 s that it still waits."""
    began = said = time.monotonic()
    while not (answer := probe()):
        now = time.monotonic()
        if now - began > seconds:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        if now - said >= 10:
            said = now
            say(f"waiting for {what} ({now - began:.0f} of at most {seconds:.0f} s)")
        time.sleep(0.25)
    say(f"{what} after {time.monotonic() - began:.1f} s")
    return answer


def call(url: str, body: Any = None, seconds: float = 30) -> Any:
    """GET, or POST a JSON body; return the answer, parsed if it is JSON, or None where there is no 200."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            text = response.read()
    except (OSError, urllib.error.URLError):
        return None
    return json.loads(text) if text[:1] in b"{[" else text


class Composition:
    """The services of docker-compose.yml under a project name, a tag and ports of their own.

    `files`: a copy of deploy/tfserving, which may be edited; it goes with the process.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.files = Path(self._folder.name, "tfserving")
        shutil.copytree(HERE / "tfserving", self.files)
        self.env = os.environ | {
            "SEQSERVE_TAG": TAG,
            "SEQSERVE_PUBLISH": "127.0.0.1",
            "TFSERVING_FILES": str(self.files),
        }
        for name in PORTS:
            self.env.setdefault(name, str(_free_port()))
        if not shutil.which("docker-buildx") and _fails("docker", "buildx", "version"):
            self.env["DOCKER_BUILDKIT"] = "0"  # an engine without BuildKit builds the old way
        self.command = [*_compose_command(), "-p", PROJECT, "-f", str(REPOSITORY / "docker-compose.yml")]

    def __call__(self, *arguments: str, seconds: float = 120, show: bool = False) -> str:
        """Run `docker-compose …`."""
        return run(*self.command, *arguments, seconds=seconds, show=show, env=self.env, cwd=REPOSITORY)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Run `docker-compose …` without waiting for it."""
        command = [*self.command, *arguments]
        return subprocess.Popen(
            command, env=self.env, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def url(self, port: str, path: str) -> str:
        """Return the address of a path behind a published port."""
        return f"http://127.0.0.1:{self.env[port]}{path}"

    def inspected(self, service: str) -> Any:
        """Return what the engine says about a service's container, running or not."""
        return json.loads(docker("inspect", self("ps", "-a", "-q", service).split()[0]))[0]


def _compose_command() -> list[str]:
    if given := os.environ.get("COMPOSE"):
        return shlex.split(given)
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if _fails("docker", "compose", "version"):
        raise Failed("no Compose here: install docker-compose, or the compose plugin of docker")
    return ["docker", "compose"]


def _fails(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def check_engine() -> None:
    """Fail with advice unless a Docker engine answers."""
    if not shutil.which("docker"):
        raise Failed("no docker here: install it (Debian: apt-get install docker.io docker-compose)")
    if _fails("docker", "info"):
        raise Failed(
            "no Docker engine answers. Start one: `systemctl start docker`, or as root `dockerd &`; "
            "or name one by DOCKER_HOST"
        )
    say(f"Docker engine {docker('info', '-f', '{{.ServerVersion}}')}")


class Images:
    """Sees that every base image is there: local, pulled, or a stand-in made here."""

    def __init__(self) -> None:
        composed = (REPOSITORY / "docker-compose.yml").read_text()
        self.python = _first(r"^FROM (\S+)", (HERE / "Dockerfile.gateway").read_text())
        pinned = _first(r"image: \$\{TFSERVING_IMAGE:-(\S+)\}", composed)
        self.tfserving = os.environ.get("TFSERVING_IMAGE") or pinned
        self.prometheus = _first(r"image: (prom/prometheus:\S+)", composed)
        self.grafana = _first(r"image: (grafana/grafana:\S+)", composed)
        self.stand_ins: dict[str, str] = {}  # name -> what it is

    def get(self, name: str, stand_in: str, make: Callable[[], None]) -> None:
        """Use the local image or pull it; else make the stand-in under its name."""
        if self.there(name):
            return
        self.stand_ins[name] = stand_in
        say(f"{name} cannot be pulled: IN ITS PLACE {stand_in}")
        began = time.monotonic()
        make()
        say(f"{name} made in {time.monotonic() - began:.1f} s")

    def there(self, name: str) -> bool:
        """Say whether an image is here, pulling it where that works. A stand-in is none."""
        label = '{{index .Config.Labels "seqserve.standin"}}'
        inspected = subprocess.run(
            ["docker", "image", "inspect", "-f", label, name], capture_output=True, text=True, check=False
        )
        if inspected.returncode == 0 and inspected.stdout.strip() in ("", "<no value>"):
            say(f"{name} is on this machine")
            return True
        try:
            docker("pull", "--quiet", name, seconds=900)
        except Failed:
            return False
        say(f"{name} pulled")
        return True

    def forget(self) -> None:
        """Take the official names back from the stand-ins; their layers stay, for the next run."""
        for name in self.stand_ins:
            if not _fails("docker", "image", "inspect", name):
                docker("tag", name, _kept(name))
                docker("rmi", "--no-prune", name)

    def make_python(self) -> None:
        """Make a Debian with its Python, `python` and `pip` on the path, as the official image has them."""
        if not _fails("docker", "image", "inspect", _kept(self.python)):
            docker("tag", _kept(self.python), self.python)
            return
        if not shutil.which("debootstrap"):
            raise Failed(f"{self.python} can neither be pulled nor made: debootstrap is not installed")
        with tempfile.TemporaryDirectory() as folder:
            root, archive = Path(folder, "root"), Path(folder, "root.tar")
            packages = "--include=ca-certificates,python3,python3-pip,python3-venv"
            mirror = [os.environ["DEBIAN_MIRROR"]] if "DEBIAN_MIRROR" in os.environ else []
            suite = self.python.rpartition("-")[2]
            run("debootstrap", "--variant=minbase", packages, suite, str(root), *mirror, seconds=900)
            _trim(root)
            run("tar", "-C", str(root), "-cf", str(archive), ".", seconds=300)
            changes = (
                'LABEL seqserve.standin="debootstrap"',
                "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt",
                'CMD ["python"]',
            )
            given = [argument for change in changes for argument in ("--change", change)]
            docker("import", *given, str(archive), self.python, seconds=300)

    def make_prometheus(self) -> None:
        """Make Debian's Prometheus."""
        self._build(self.prometheus, "prometheus", f"PYTHON={self.python}")

    def make_tfserving(self) -> None:
        """Make the test server, from the trainer's image, which has its TensorFlow."""
        self._build(self.tfserving, "tfserving", f"TRAINER=seqserve-trainer:{TAG}")

    def _build(self, name: str, stand_in: str, argument: str) -> None:
        file = str(HERE / "standins" / f"{stand_in}.Dockerfile")
        docker("build", "-q", "-f", file, "-t", name, "--build-arg", argument, str(REPOSITORY), seconds=900)


def _kept(name: str) -> str:
    return f"seqserve-standin/{name}"


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise Failed(f"no {pattern} in the files")
    return match[1]


def _trim(root: Path) -> None:
    """Leave out what the official image has not; trust whom this machine trusts: its index may have a CA."""
    for name in (
        "var/cache/apt/archives",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
    ):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if trusted and Path(trusted).is_file():
        shutil.copy(trusted, root / "etc/ssl/certs/ca-certificates.crt")
