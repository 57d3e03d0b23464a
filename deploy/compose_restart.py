"""For compose_test.py: TensorFlow Serving restarted on what would end it, and its entry in a bare image."""

import io
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

from compose_engine import PROJECT, Composition, call, docker, require, say, waited

BARE = "seqserve-test-bare"
RECORDER = '#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n'
SPOIL = """
data=$(echo /models/en-de/2/variables/variables.data-*)
head -c 1000 "$data" >/tmp/cut
cat /tmp/cut >"$data"
mkdir /models/late
"""
FIRST, LISTED = 'base_path: "/models/en-de"', "model_config_list {"
LATE = ' config { name: "late" base_path: "/models/late" model_platform: "tensorflow" }'
NOWHERE, LABEL = 'version_labels { key: "stable" value: 9 }', 'version_labels { key: "stable" value: 1 }'
FAULTS = {"VERSION_UNREADABLE": "en-de", "NO_VERSION": "late", "LABEL_NOWHERE": "en-de"}


def check_restart(compose: Composition, text: str) -> None:
    """A version cut short, a model without a version, a label that points nowhere: the good versions answer.

    Each is reported once, and a later edit of models.config is taken.
    """
    config = compose.files / "models.config"
    original = config.read_text()
    compose("--profile", "train", "run", "-T", "--rm", "--entrypoint", "sh", "trainer", "-ec", SPOIL)
    config.write_text(original.replace(FIRST, f"{FIRST} {NOWHERE}").replace(LISTED, LISTED + LATE))
    compose("restart", "tfserving")
    waited(
        "en-de version 1 answers in place of 2, which is cut short", partial(_answers, compose, text, 1), 90
    )
    for reason, model in FAULTS.items():
        waited(f"the keeper reports {reason} of {model}", partial(_reports, compose, reason, model), 30)
    config.write_text(original.replace(FIRST, f"{FIRST} {LABEL}"))
    waited("a later edit is taken", partial(_answers, compose, text, 1, "/labels/stable"), 60)
    counts = {reason: _reports(compose, reason, model) for reason, model in FAULTS.items()}
    require(set(counts.values()) == {1}, f"each fault was reported once: {counts}")
    config.write_text(original)


def _answers(compose: Composition, text: str, version: int, label: str = "") -> bool:
    answer = call(compose.url("REST_PORT", f"/v1/models/en-de{label}:translate"), {"texts": [text]})
    return bool(answer) and answer["model"]["version"] == version


def _reports(compose: Composition, reason: str, model: str) -> int:
    lines = compose("logs", "--no-color", "keeper").splitlines()
    return sum(all(f'"{word}"' in line for word in ("WARNING", reason, model)) for line in lines)


def check_bare_start(compose: Composition) -> None:
    """start.sh, where there is a shell and `sleep` and nothing else, asks the keeper and goes on."""
    busybox = shutil.which("busybox")
    if busybox is None or b"/ld-linux" in Path(busybox).read_bytes():  # it would find no libraries there
        say("NOT RUN: start.sh in a bare image (no busybox here: Debian's package busybox-static)")
        return
    archive = compose.files.with_name("bare.tar")
    _write_bare(archive, Path(busybox))
    docker("import", str(archive), BARE)
    try:
        volumes = ("-v", f"{PROJECT}_keeper:/keeper", "-v", f"{compose.files}:/etc/tfserving:ro")
        command = ("/bin/sh", "/etc/tfserving/start.sh", "--port=8500", "two words")
        printed = docker("run", "--rm", "--network", "none", *volumes, BARE, *command).splitlines()
    finally:
        docker("rmi", BARE)
    expected = ["--model_config_file=/keeper/models.config", "--port=8500", "two words"]
    require(printed == expected, f"start.sh in an image of busybox alone: {printed}")


def _write_bare(archive: Path, busybox: Path) -> None:
    """Write a root filesystem of busybox, with a program that records its arguments in the server's place."""
    with tarfile.open(archive, "w") as tar:
        tar.add(busybox.resolve(), "bin/busybox")
        for name in ("sh", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        program: Any = tarfile.TarInfo("usr/bin/tensorflow_model_server")
        program.size, program.mode = len(RECORDER), 0o755
        tar.addfile(program, io.BytesIO(RECORDER.encode()))
