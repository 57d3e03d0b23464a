"""The translators of docs/bring.md: made, exported and called by the commands that stand on the page."""

import hashlib
import importlib
import json
import re
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.trained import update

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "examples" / "translators"
PAGE = REPOSITORY / "docs" / "bring.md"
NAMES = ("attention", "checkpoint", "characters", "strings")


@dataclass(frozen=True, slots=True)
class Style:
    """One of them, by its script's name. Where the page says `build`, the tests have a folder of theirs."""

    script: str

    @property
    def name(self) -> str:
        """The model's name."""
        return f"dates-{self.script}"

    @property
    def key(self) -> str:
        """The content of the scripts and of the page."""
        hashed = hashlib.sha256(self.script.encode())
        for path in (*sorted(FOLDER.glob("*.py")), *sorted(FOLDER.glob("*.toml")), PAGE):
            update(hashed, path)
        return hashed.hexdigest()[:16]

    def make(self, root: Path) -> None:
        """Run the script and the export; what the script wrote is kept beside the version, as `trained`."""
        build = root.parent
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras', of what people's own code does
            patch.syspath_prepend(FOLDER)  # the scripts import each other, as they do when they are run
            patch.chdir(REPOSITORY)
            train = self.command(f"examples/translators/{self.script}.py", build)
            importlib.import_module(self.script).main(train)
            export = self.command("seqserve export", build)
            _run(["export", *export])
        root.mkdir()
        (build / "own" / self.name).rename(root / self.name)
        (build / self.script).rename(root / self.name / "trained")

    def command(self, program: str, build: Path) -> list[str]:
        """Return the arguments of a command on the page, with another folder in place of `build`."""
        commands = [line.replace("build/", f"{build}/") for line in commands_of(self.script)]
        found = next(line for line in commands if program in line)
        return shlex.split(found.partition(program)[2])

    def call(self) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of the page's curl."""
        curl = next(line for line in commands_of(self.script) if line.startswith("curl"))
        arguments = shlex.split(curl)
        url = next(argument for argument in arguments if argument.startswith("http"))
        return url.partition(":8000")[2], json.loads(arguments[arguments.index("-d") + 1])


STYLES = tuple(map(Style, NAMES))


def commands_of(script: str) -> list[str]:
    """Return the commands of the page's section for a script, each on one line."""
    page = PAGE.read_text("utf-8")
    section = next(part for part in re.split(r"^## ", page, flags=re.M) if f"translators/{script}.py" in part)
    blocks = re.findall(r"```\n(.*?)```", section, flags=re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def _run(arguments: list[str]) -> None:
    from seqserve.service.cli import app

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"


def expected(root: Path, style: Style) -> list[tuple[str, str]]:
    """Return each text with what the script's own loop gives for it."""
    lines = (root / style.name / "trained/expected.jsonl").read_text("utf-8").splitlines()
    return [(line["source"], line["translation"]) for line in map(json.loads, lines)]
