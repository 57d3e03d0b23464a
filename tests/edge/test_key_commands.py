"""`seqserve keys …` from the shell: what it prints, what the file holds, and that it always is whole."""

import fcntl
import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqserve.service.cli import app
from seqserve.service.core.types import Principal
from seqserve.service.edge.key_file import add, read_keys, read_lines, remove
from seqserve.service.edge.keys import Line, new_key
from tests.edge.fakes import key_line

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the keys are to be."""
    return tmp_path / "keys.jsonl"


@pytest.fixture
def run(file: Path) -> Run:
    """Return what runs a command on the file; its exit status, output and complaints."""

    def ran(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["keys", *arguments], env={"SEQSERVE_KEYS": str(file)})
        return result.exit_code, result.stdout, result.stderr

    return ran


def test_a_key_is_printed_once_and_its_hash_is_kept(run: Run, file: Path) -> None:
    """With its scopes and its end; nobody but the owner may read the file."""
    code, printed, told = run(
        "add", "shop", "--scope", "predict:*", "--scope", "translate:en-de", "--expires", "90d"
    )
    (key,) = printed.splitlines()
    assert code == 0
    assert key not in told + file.read_text()
    scopes = frozenset({("predict", "*"), ("translate", "en-de")})
    assert read_keys(file).bearer(key) == Principal("shop", scopes)
    (line,) = read_lines(file)
    assert line.created is not None
    assert line.expires is not None
    assert line.expires - line.created == timedelta(days=90)
    assert datetime.now(UTC) - line.created < timedelta(minutes=1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not [path for path in file.parent.iterdir() if path != file]


def test_rotation(run: Run, file: Path) -> None:
    """A second key of the name, then the first is revoked by the id that the list shows."""
    old, new = (run("add", "shop")[1].strip() for _ in range(2))
    other = run("add", "other")[1].strip()
    assert run("add", "batch.example", "--certificate")[1] == ""
    file.write_text(f"# mine\n{file.read_text()}")
    (first, second, *_) = read_lines(file)
    listed = run("list")[1]
    assert all(shown in listed for shown in (first.id, second.id, "shop", "other", "*:*", "certificate"))
    assert run("revoke", "shop", "--id", first.id)[0] == 0
    keys = read_keys(file)
    assert [keys.bearer(key) is not None for key in (old, new, other)] == [False, True, True]
    assert run("revoke", "shop")[0] == run("revoke", "batch.example")[0] == 0
    keys = read_keys(file)
    assert [keys.bearer(key) is not None for key in (old, new, other)] == [False, False, True]
    assert keys.holder("batch.example") is None
    assert file.read_text().startswith("# mine\n")
    assert run("revoke", "other")[0] == 0
    assert read_lines(file) == []  # and that is a file that can be used


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "a b"], "name: "),
        (["add", "shop", "--scope", "tranlate:en-de"], "'tranlate:en-de' is not ACTION:MODEL"),
        (["add", "shop", "--scope", "translate"], "'translate' is not ACTION:MODEL"),
        (["add", "shop", "--scope", "translate:"], "scopes.0"),
        (["add", "shop", "--expires", "soon"], "'soon' is no date"),
        (["add", "shop", "--expires", "2020-01-01"], "'2020-01-01' is past"),
        (["add", "held", "--certificate"], "certificate of held is there twice"),
        (["revoke", "shop"], "has no key of shop"),
        (["revoke", "held", "--id", "0123"], "has no key of held with the id 0123"),
    ],
)
def test_what_cannot_be_done_changes_nothing(run: Run, file: Path, arguments: list[str], said: str) -> None:
    """It says why, prints no key, and leaves the file."""
    add(file, Line(name="held", scopes=("*:*",)))
    before = file.read_bytes()
    code, printed, told = run(*arguments)
    assert (code, printed) == (1, "")
    assert said in told
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_link_in_the_place_of_the_new_file_is_not_followed(file: Path, tmp_path: Path) -> None:
    """Whoever may write to the folder cannot have another file written over by who adds a key."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".{file.name}.new").symlink_to(victim)
    add(file, key_line("shop", new_key()))
    assert victim.read_text() == "mine"
    assert not file.is_symlink()
    assert [line.name for line in read_lines(file)] == ["shop"]


def test_what_is_revoked_is_what_is_there_once_nobody_else_writes(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that another adds while the lock is waited for goes too; and a file of none can still be used."""
    late, lock = key_line("shop", new_key()), fcntl.flock
    file.write_text("")

    def locked_later(folder: int, how: int) -> None:
        file.write_text(f"{late.model_dump_json(exclude_none=True)}\n")
        lock(folder, how)

    monkeypatch.setattr(fcntl, "flock", locked_later)
    code, _, told = run("revoke", "shop")
    assert (code, late.id in told) == (0, True)
    assert read_lines(file) == []


@pytest.mark.parametrize("content", ["", "nonsense", None])
def test_a_file_that_is_none_is_not_written_over(run: Run, file: Path, content: str | None) -> None:
    """What cannot be read may be somebody else's; what is not there has no keys to list."""
    if content is not None:
        file.write_text(content)
    for arguments in (["list"], ["revoke", "shop"], *([["add", "shop"]] if content else [])):
        code, printed, told = run(*arguments)
        assert (code, printed) == (1, "")
        assert str(file) in told.replace("\n", "")
    assert (file.read_text() if file.exists() else None) == content


def test_several_who_write_lose_nothing_and_who_reads_sees_it_whole(file: Path, tmp_path: Path) -> None:
    """Added at once through a link, while one is read again and again: every key is there in the end."""
    link = tmp_path / "link"
    add(file, key_line("first", new_key()))
    link.symlink_to(file)
    lines = [key_line(f"name-{number}", new_key()) for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(add, link, line) for line in lines]
        while not all(one.done() for one in written):
            assert read_lines(file)[0].name == "first"
        assert [one.result() for one in written] == [None] * 24
        list(pool.map(lambda line: remove(link, line.__eq__), lines[:12]))
    assert {line.name for line in read_lines(file)} == {"first", *(line.name for line in lines[12:])}
    assert link.is_symlink()
    assert all(json.loads(text) for text in file.read_text().splitlines()[1:])
