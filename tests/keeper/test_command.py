"""`seqserve models-config` from the shell."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqserve.service.cli import app
from tests.conformance.calls import until
from tests.keeper.made import TWO, config, label, spoil, version
from tests.keeper.rig import keeping

pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A config file of `demo`, version 1, whose folder lies under `models` here."""
    version(tmp_path / "models", "demo", 1)
    path = tmp_path / "models.config"
    path.write_text(config(Path("/srv"), {"demo": TWO}))
    return path


def checked(file: Path) -> tuple[int, str, list[str]]:
    """Run the check; return its exit status, and what it prints and complains of."""
    arguments = ["models-config", "check", str(file), "--root", str(file.parent / "models")]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr.splitlines()


def test_what_is_right_is_listed(file: Path) -> None:
    """A line for each model, with the versions that would be served; exit status 0."""
    assert checked(file) == (0, "demo: 1\n", [])


def test_each_fault_is_a_line(file: Path) -> None:
    """Of versions, names and labels; exit status 1."""
    spoil(version(file.parent / "models", "demo", 2))
    file.write_text(config(Path("/srv"), {"demo": TWO + label("stable", 7), "late": TWO}))
    code, printed, faults = checked(file)
    assert (code, printed.splitlines()[0]) == (1, "demo: 1")
    assert [fault.partition(":")[0] for fault in faults] == [
        "VERSION_UNREADABLE",
        "LABEL_NOWHERE",
        "NO_VERSION",
    ]


@pytest.mark.parametrize("text", ["", None], ids=["empty", "missing"])
def test_a_file_that_is_not_valid_is_a_line_too(file: Path, text: str | None) -> None:
    """It names the file; exit status 1."""
    file.unlink() if text is None else file.write_text(text)
    code, printed, (fault,) = checked(file)
    assert (code, printed) == (1, "")
    assert fault.startswith(f"CONFIG_INVALID: {file}: ")


def test_the_keeper_keeps_until_it_is_ended(file: Path, tmp_path: Path) -> None:
    """A copy, metrics at a port of its own, a line of log for a fault; SIGTERM ends it."""
    file.write_text(config(tmp_path / "models", {"demo": TWO, "late": TWO}))
    with keeping(file, tmp_path / "out") as kept:
        until(kept.reported, bool)
        assert kept.reported() == ["NO_VERSION"]
        sample = 'seqserve_keeper_fault{label="",model="late",reason="NO_VERSION",version=""} 1.0'
        assert sample in kept.metrics()
        assert '"demo"' in (kept.out / "models.config").read_text()
