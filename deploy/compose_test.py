"""`make compose-test`: docker-compose.yml, unchanged, on a real Docker engine, from build to shutdown.

Where images cannot be pulled, stand-ins are made under their names (compose_engine.py), and the output says
so. Those names are removed at the end, so that no later `docker-compose up` uses them. Grafana runs where its
image can be pulled.

Environment: COMPOSE, the command (`docker-compose`); TFSERVING_IMAGE, in place of the pinned one; REST_PORT,
GRPC_PORT, PROMETHEUS_PORT, GRAFANA_PORT, free ones if unset; DEBIAN_MIRROR for debootstrap; PIP_INDEX_URL and
the like, for pip in the builds.
"""

import json
import signal
import subprocess
import sys
import time
import urllib.parse
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from compose_engine import (
    PROJECT,
    TAG,
    Composition,
    Failed,
    Images,
    call,
    check_engine,
    docker,
    require,
    run,
    say,
    waited,
)
from compose_restart import check_bare_start, check_restart

MOST_BEYOND_BASE_MB = 250
MOST_START_SECONDS = 2.0
TEXT = "Tuesday, November 24, 2026"
SEQUENCE = {"event": ["visit", "search", "view"], "minutes": [0, 0.5, 2]}
TRANSLATE, PREDICT = "/v1/models/en-de:translate", "/v1/models/shop:predict"


def prepare(compose: Composition, images: Images) -> bool:
    """Build our images and get the others; says whether Grafana is among them."""
    images.get(images.python, "Debian by debootstrap, with its Python", images.make_python)
    for service in ("gateway", "trainer"):
        began = time.monotonic()
        compose("build", service, seconds=1200)
        say(f"{service} built in {time.monotonic() - began:.1f} s")
    server = "THE TEST SERVER of this project, tests/tfserving: NOT TensorFlow Serving itself"
    images.get(images.tfserving, server, images.make_tfserving)
    images.get(images.prometheus, "Debian's package prometheus", images.make_prometheus)
    if grafana := images.there(images.grafana):
        return grafana
    say(f"NOT RUN: grafana ({images.grafana} cannot be pulled, and there is no package to make it from)")
    return False


def check_size(images: Images) -> float:
    """Return the gateway image's size beyond its base in MB; no TensorFlow may be in it."""
    gateway = f"seqserve-gateway:{TAG}"
    sizes = [int(docker("image", "inspect", "-f", "{{.Size}}", name)) for name in (gateway, images.python)]
    beyond = (sizes[0] - sizes[1]) / 1e6
    require(
        beyond <= MOST_BEYOND_BASE_MB,
        f"the gateway's image is {beyond:.0f} MB beyond its base, of at most {MOST_BEYOND_BASE_MB}",
    )
    looking = "import importlib.util as u; print([n for n in ('tensorflow', 'keras') if u.find_spec(n)])"
    listed = docker("run", "--rm", "--entrypoint", "python", gateway, "-c", looking)
    require(listed == "[]", "neither tensorflow nor keras is in the gateway's image")
    return beyond


def start(compose: Composition, grafana: bool) -> float:
    """Start all services; return the seconds from the start of the gateway's container to its answer."""
    others = ["keeper", "tfserving", "prometheus", *(["grafana"] if grafana else [])]
    compose("up", "-d", "--no-build", *others)
    return timed_start(compose, "up", "-d", "--no-build", "--no-deps", "gateway")


def timed_start(compose: Composition, *arguments: str) -> float:
    """Start the gateway's container by a command, and return the seconds until it answers.

    The time for which it waited for a core does not count: that is the machine's other work.
    """
    starting = compose.start(*arguments)
    until = time.monotonic() + 60
    while call(compose.url("REST_PORT", "/healthz"), seconds=1) is None:
        if time.monotonic() > until:
            raise Failed("the gateway does not answer /healthz within 60 s")
        time.sleep(0.01)
    answered = time.time()
    if starting.wait(timeout=60):
        raise Failed(f"docker-compose {' '.join(arguments)}: exit {starting.returncode}")
    container = compose.inspected("gateway")
    began = datetime.fromisoformat(container["State"]["StartedAt"]).timestamp()
    schedule = docker("exec", container["Id"], "cat", "/proc/1/schedstat").split()
    ran, waiting = (int(nanoseconds) / 1e9 for nanoseconds in schedule[:2])
    taken = max(ran, answered - began - waiting)  # some of the wait may have come after the answer
    require(
        taken <= MOST_START_SECONDS,
        f"the gateway answers {taken:.2f} s after its start, of at most {MOST_START_SECONDS}"
        f" ({waiting:.2f} s beside, for which it waited for a core)",
    )
    return taken


def check_confined(compose: Composition) -> None:
    """The gateway's container: not root, nothing to write to, no rights, healthy, on the loopback alone."""
    container = compose.inspected("gateway")
    host = container["HostConfig"]
    uid = docker("exec", container["Id"], "id", "-u")
    require(uid != "0", f"the gateway is not root (uid {uid})")
    writing = "open('/opt/seqserve/x', 'w')"
    wrote = subprocess.run(
        ["docker", "exec", "-u", "0", container["Id"], "python", "-c", writing], capture_output=True
    )
    refused = b"Read-only file system" in wrote.stderr
    require(host["ReadonlyRootfs"] and refused, "its root filesystem is read-only, even for root")
    require(
        host["CapDrop"] == ["ALL"] and "no-new-privileges:true" in host["SecurityOpt"],
        "it has no capabilities",
    )
    published = {binding["HostIp"] for ports in host["PortBindings"].values() for binding in ports}
    require(published == {"127.0.0.1"}, "its ports are published on 127.0.0.1 alone")
    waited("the gateway is healthy", lambda: _health(compose) == "healthy", 60)


def _health(compose: Composition) -> str:
    return str(compose.inspected("gateway")["State"]["Health"]["Status"])


def train(compose: Composition) -> None:
    """Train the demo models into the volume, and wait until the gateway is ready."""
    require(call(compose.url("REST_PORT", "/readyz")) is None, "not ready while there are no models")
    say("trainer: docker-compose --profile train run --rm trainer")
    began = time.monotonic()
    compose("--profile", "train", "run", "-T", "--rm", "trainer", seconds=900, show=True)
    say(f"trainer: both models in {time.monotonic() - began:.0f} s")
    waited("the gateway is ready", lambda: call(compose.url("REST_PORT", "/readyz")), 180)


def check_calls(compose: Composition) -> None:
    """The same text and sequence through both published doors: the same answers."""
    text = _translated(compose)["translations"][0]["text"]
    require(text == "Dienstag, 24. November 2026", f"REST translates {TEXT!r}: {text!r}")
    answer = call(compose.url("REST_PORT", PREDICT), {"sequences": [SEQUENCE]})
    label = answer["predictions"][0]["heads"]["next_event"]["label"]
    require(bool(label), f"REST predicts {label!r}")
    require(_shell(compose, "translate", TEXT) == text, "gRPC translates the same")
    by_grpc = json.loads(_shell(compose, "predict", json.dumps(SEQUENCE)))
    require(by_grpc["heads"]["next_event"]["label"] == label, "gRPC predicts the same")


def _translated(compose: Composition) -> Any:
    answer = call(compose.url("REST_PORT", TRANSLATE), {"texts": [TEXT]})
    if answer is None:
        raise Failed("REST does not translate")
    return answer


def _shell(compose: Composition, verb: str, item: str) -> str:
    """Call the gRPC door by the `seqserve` beside this Python."""
    program = str(Path(sys.executable).with_name("seqserve"))
    return run(program, verb, "--grpc", "--address", f"127.0.0.1:{compose.env['GRPC_PORT']}", item).strip()


def check_new_version(compose: Composition) -> None:
    """Publish a copy as version 2: the gateway switches to it, and every call in between is answered."""
    trainer = ("--profile", "train", "run", "-T", "--rm", "trainer")
    publishing = compose.start(*trainer, "publish", "/models/en-de/1", "/models")
    calls, until = 1, time.monotonic() + 90
    while _translated(compose)["model"]["version"] != 2:
        if time.monotonic() > until:
            raise Failed("en-de version 2 does not answer within 90 s")
        calls += 1
        time.sleep(0.02)
    require(publishing.wait(timeout=60) == 0, "en-de version 2 is published by the trainer")
    say(f"ok: version 2 answers, and each of the {calls} calls meanwhile was answered")


def check_prometheus(compose: Composition) -> None:
    """Every target is scraped, the keeper's fault is there, and the calls of both doors are counted."""
    for query in (
        'up{job="seqserve"} == 1',
        'up{job="tfserving"} == 1',
        'up{job="keeper"} == 1',
        'seqserve_keeper_fault{model="en-de",version="2",reason="VERSION_UNREADABLE"} == 1',
        'seqserve_requests_total{model="en-de",transport="rest",code="OK"}',
        'seqserve_requests_total{model="en-de",transport="grpc",code="OK"}',
    ):
        series = waited(f"Prometheus has {query}", partial(_queried, compose, query), 60)
        say(f"   {series[0]['value'][1]} at {series[0]['metric'].get('instance')}")


def _queried(compose: Composition, query: str) -> Any:
    quoted = urllib.parse.quote(query)
    answer = call(compose.url("PROMETHEUS_PORT", f"/api/v1/query?query={quoted}"))
    return answer and answer["data"]["result"]


def check_stop(compose: Composition) -> None:
    """The gateway ends by itself on SIGTERM, and starts again."""
    began = time.monotonic()
    compose("stop", "gateway")
    code = json.loads(docker("inspect", compose("ps", "-a", "-q", "gateway").split()[0]))[0]["State"][
        "ExitCode"
    ]
    require(code == 0, f"the gateway drained and ended with {code} after {time.monotonic() - began:.1f} s")
    timed_start(compose, "start", "gateway")
    waited("ready again", lambda: call(compose.url("REST_PORT", "/readyz")), 60)


def scenario(compose: Composition, images: Images) -> None:
    """Everything, in order."""
    grafana = prepare(compose, images)
    beyond = check_size(images)
    started = start(compose, grafana)
    check_confined(compose)
    train(compose)
    check_calls(compose)
    check_new_version(compose)
    check_restart(compose, TEXT)
    check_bare_start(compose)
    check_prometheus(compose)
    if grafana:
        waited("Grafana is up", lambda: call(compose.url("GRAFANA_PORT", "/api/health")), 60)
    check_stop(compose)
    say(f"gateway: {beyond:.0f} MB beyond its base, first answer after {started:.2f} s")
    for name, stand_in in images.stand_ins.items():
        say(f"{name} was {stand_in}")
    if not grafana:
        say("grafana was not run")


def _terminated(_number: int, _frame: object) -> None:
    sys.exit(143)  # by way of every `finally`


def main() -> int:
    """Run the scenario and take down what it started, whatever happens."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        check_engine()
        compose, images = Composition(), Images()
    except Failed as failure:
        say(str(failure))
        return 1
    down = ("--profile", "train", "down", "-v", "--remove-orphans")
    try:
        compose(*down)  # what a killed run left
        scenario(compose, images)
        say("compose-test passed")
        return 0
    except Exception as failure:  # an answer of an unexpected form is a failure too
        say(f"FAILED: {failure if isinstance(failure, Failed) else repr(failure)}")
        logs = [*compose.command, "logs", "--tail=40"]
        print(subprocess.run(logs, env=compose.env, capture_output=True, text=True).stdout)
        return 1
    finally:
        compose(*down)
        images.forget()
        say(f"docker-compose -p {PROJECT} down -v: nothing is left running")


if __name__ == "__main__":
    sys.exit(main())
