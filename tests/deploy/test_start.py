"""TensorFlow Serving's start in the composition: start.sh in a shell with nothing else, and a restart."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from tests.conformance.calls import Client, State, refusal, until
from tests.conformance.modules import shorten, write_version
from tests.deploy.board import DEPLOY
from tests.keeper.made import TWO, config, label
from tests.keeper.rig import Kept, keeping
from tests.tfserving.process import REPOSITORY, serving

pytestmark = pytest.mark.slow

START = DEPLOY / "tfserving/start.sh"
BUSYBOX = shutil.which("busybox")
RECORDER = '#!{shell}\nfor argument in "$@"; do echo "$argument"; done\n'
SERVER = '#!/bin/sh\ncd "{repository}" && exec "{python}" -m tests.tfserving --host=127.0.0.1 "$@"\n'
COPY = "models.config"


def program(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)


if BUSYBOX:

    @pytest.fixture
    def bare(tmp_path: Path) -> Path:
        """A PATH that has `sleep`, and in the server's place a program that records its arguments."""
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "sleep").symlink_to(BUSYBOX)
        program(folder / "sh", f'#!{BUSYBOX} sh\nexec {BUSYBOX} sh "$@"\n')
        program(folder / "tensorflow_model_server", RECORDER.format(shell=f"{BUSYBOX} sh"))
        (tmp_path / "keeper").mkdir()
        return folder

    def started(bare: Path, seconds: int = 30) -> tuple[list[str], str]:
        """Run start.sh by busybox; return the arguments of the server, and what is said beside."""
        keeper = bare.parent / "keeper"
        environment = {
            "PATH": str(bare),
            "SEQSERVE_KEEPER": str(keeper),
            "SEQSERVE_KEEPER_SECONDS": str(seconds),
        }
        command = [BUSYBOX, "sh", str(START), "--port=8500", "two words"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.splitlines(), done.stderr

    def test_a_start_waits_for_the_answer(bare: Path) -> None:
        """It asks by a file of its own, and serves the copy once that file has gone."""
        keeper = bare.parent / "keeper"

        def answer() -> None:
            """Answer as the keeper does."""
            (ask,) = until(lambda: list(keeper.glob("*.ask")), bool)[-1]
            (keeper / COPY).touch()
            ask.unlink()

        answering = threading.Thread(target=answer)
        answering.start()
        arguments, said = started(bare)
        answering.join()
        assert arguments == [f"--model_config_file={keeper / COPY}", "--port=8500", "two words"]
        assert said == ""

    @pytest.mark.parametrize("copy", [True, False], ids=["an old copy", "no copy"])
    def test_a_start_does_not_wait_for_ever(bare: Path, copy: bool) -> None:
        """Without a keeper it serves the last copy, or else the original, and says so."""
        place = bare.parent / "keeper" / COPY
        if copy:
            place.touch()
        arguments, said = started(bare, seconds=1)
        original = "/etc/tfserving/models.config"
        assert arguments[0] == f"--model_config_file={place if copy else original}"
        assert "no keeper has answered: the models are not checked" in said
        assert (f"serving {original} as it is" in said) != copy

    def test_a_start_without_the_shared_folder_goes_on(bare: Path) -> None:
        """It does not wait where it cannot even ask."""
        (bare.parent / "keeper").rmdir()
        arguments, said = started(bare)
        assert arguments[0] == "--model_config_file=/etc/tfserving/models.config"
        assert "no keeper has answered" in said


@contextmanager
def model_server() -> Iterator[Client]:
    """Start TensorFlow Serving as the composition does, by start.sh."""
    command = f"sh {START}"
    with (
        serving(command=command, model_config_file_poll_wait_seconds=1) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield Client(channel)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """A keeper of `good`, 1 and 2, and `two`, 1 and 2; the test server as what start.sh starts."""
    root = tmp_path / "models"
    for model in ("good", "two"):
        for number in (1, 2):
            write_version(root / model, number)
    (tmp_path / "models.config").write_text(config(root, {"good": TWO, "two": TWO}))
    (tmp_path / "bin").mkdir()
    server = SERVER.format(repository=REPOSITORY, python=sys.executable)
    program(tmp_path / "bin" / "tensorflow_model_server", server)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SEQSERVE_KEEPER", str(tmp_path / "keeper"))
    with keeping(tmp_path / "models.config", tmp_path / "keeper") as kept:
        yield kept


def edit(file: Path, text: str) -> None:
    """Write a file aside and put it in place: the keeper, which always looks, would tell of half a file."""
    aside = file.with_name("aside")
    aside.write_text(text)
    aside.replace(file)


def test_a_restart_survives_what_would_end_it(kept: Kept, tmp_path: Path) -> None:
    """A version cut short, a model without a version, a label that points nowhere: the good versions answer.

    Each is reported once, and goes once it has come right; edits of the file are taken all along. A version
    that is copied in, file by file, is served once it is whole.
    """
    root, file = tmp_path / "models", tmp_path / "models.config"
    with model_server() as client:
        assert [client.number(model=model) for model in ("good", "two")] == [2, 2]
        assert kept.reported() == []
    shorten(root / "two" / "2")
    (root / "late").mkdir()
    models = {"good": TWO + label("stable", 9), "two": TWO, "late": TWO}
    edit(file, config(root, models))
    with model_server() as client:
        assert [client.number(model=model) for model in ("good", "two")] == [2, 1]
        assert refusal(lambda: client.number(model="late")).code() is StatusCode.NOT_FOUND
        assert kept.reported() == ["LABEL_NOWHERE", "NO_VERSION", "VERSION_UNREADABLE"]
        models["good"] = TWO + label("stable", 1)
        edit(file, config(root, models))
        answers(client, 1, model="good", label="stable")
        write_version(root / "late", 1)
        answers(client, 1, model="late")
        shutil.rmtree(root / "two" / "2")
        write_version(root / "two", 2)
        answers(client, 2, model="two")
        until(lambda: kept.reported("INFO"), lambda ended: len(ended) == 3)
        assert len(kept.reported()) == 3
        copy_slowly(client, kept, root)


def test_one_edit_may_bring_a_version_and_move_a_label_to_it(kept: Kept, tmp_path: Path) -> None:
    """TensorFlow Serving by itself would refuse that file for ever, for the version is not loaded."""
    only = "model_version_policy {{ specific {{ versions: {0} }} }}"
    models = {"good": TWO, "two": TWO}
    with model_server() as client:
        for number in (1, 2):
            models["two"] = only.format(number) + label("stable", number)
            (tmp_path / "models.config").write_text(config(tmp_path / "models", models))
            answers(client, number, model="two", label="stable")
        client.until("two", lambda versions: versions[1].state == State.END)
    assert kept.reported() == ["LABEL_WAITS"]


def copy_slowly(client: Client, kept: Kept, root: Path) -> None:
    """Copy a version without its end, on which the server fails, then the rest: in the end it answers."""
    whole = write_version(root / ".aside", 3)
    short = shutil.copytree(whole, root / ".aside" / "short")
    shorten(short)
    kept.process.send_signal(signal.SIGSTOP)  # else the server may not even try
    short.rename(root / "good" / "3")
    client.until("good", lambda v: 3 in v and v[3].state == State.END)
    kept.process.send_signal(signal.SIGCONT)
    until(kept.reported, lambda reported: len(reported) == 4)
    shutil.copytree(whole, root / "good" / "3", dirs_exist_ok=True)
    answers(client, 3, model="good")


def answers(client: Client, number: int, **spec: str) -> None:
    """Ask until that version answers."""

    def asked() -> int:
        try:
            return client.number(**spec)
        except grpc.RpcError:
            return 0

    until(asked, lambda answer: answer == number)
