"""`seqserve train` and `demo`: from a configuration to a certified version."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from seqserve.models.cli.show import (
    ConfigArgument,
    DataOption,
    RootOption,
    card_of,
    configuration,
    console,
    errors_shown,
    hear_greeting,
    print_figures,
)
from seqserve.models.config import CONFIGS, Config, load_config
from seqserve.service.contract.digest import sha256

app = typer.Typer(rich_markup_mode="rich")
DEMO = ("demo_translation", "demo_events")


@app.command()
def train(
    config: ConfigArgument,
    out: RootOption,
    data: DataOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on after the last finished epoch")] = False,
) -> None:
    """Train a model, export it as the next version, certify it, and print its quality.

    Example: seqserve train helpdesk --data helpdesk.csv --out build/models
    """
    with errors_shown():
        read = configuration(config)  # whose faults need not wait for TensorFlow
        hear_greeting()
        train_model(read, data, out, resume)


@app.command()
def demo(out: RootOption = Path("build/models")) -> None:
    """Train the two demo models on generated data, where they are missing (about two minutes).

    Both at once: the small one in a process of its own, which is heard when the large one is done.
    Then `seqserve serve` serves them.

    Example: seqserve demo --out build/models
    """
    with errors_shown(), ExitStack() as stack:
        configs = {name: load_config(CONFIGS / f"{name}.toml") for name in DEMO}
        missing = [name for name, config in configs.items() if not any((out / config.name).glob("[0-9]*"))]
        beside = [stack.enter_context(_training_beside(name, out)) for name in missing[1:]]
        for name in missing[:1]:
            hear_greeting()
            train_model(configs[name], None, out, resume=False)
        for process in beside:
            said, _ = process.communicate()
            typer.echo(said, nl=False)
            if process.returncode:
                raise typer.Exit(process.returncode)


@contextmanager
def _training_beside(config: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Train a shipped configuration in a process of its own, which does not outlive the context."""
    command = [sys.executable, "-m", "seqserve.models", "train", config, "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def train_model(config: Config, data: Path | None, root: Path, resume: bool) -> Path:
    """Train, export and certify the next version of a configuration's model; returns its directory."""
    started = time.perf_counter()
    from seqserve.models.evaluate import measure
    from seqserve.models.export import export_version, next_version
    from seqserve.models.recipes import recipe_for
    from seqserve.models.train import fit, make_reproducible

    console.rule(f"{config.name}: training")
    make_reproducible(config.training.seed)
    recipe = recipe_for(config, data)
    digest = _data_digest(data)
    fitted = fit(recipe.task, config, root / ".training" / config.name, console, resume, digest)
    card = {
        "config": config.model_dump(mode="json"),
        "training": fitted,
        "data_sha256": digest,
        "code": _revision(),
        **recipe.calibrate(console),
    }
    draft = recipe.draft(next_version(root, config.name), card)
    with console.status("export: graph, goldens, quality, certification"):
        target = export_version(draft, root, lambda loaded: measure(loaded, config, data))
    print_figures(f"{target.parent.name} version {target.name}, held out", card_of(target)["metrics"])
    typer.echo(f"{target} in {time.perf_counter() - started:.0f} s")
    return target


def _revision() -> str:
    """Return the version of this code, and the commit where it runs from a clone."""
    version, clone = f"seqserve {metadata.version('seqserve')}", Path(__file__).resolve().parents[2]
    if not (clone / ".git").exists():  # installed: a repository around it would be another project's
        return version
    git = ["git", "-C", str(clone), "rev-parse", "--short=12", "HEAD"]
    try:
        return f"{version} {subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()}"
    except (OSError, subprocess.CalledProcessError):
        return version


def _data_digest(data: Path | None) -> str:
    """Return the SHA-256 of a file, or of a folder's files in order of their names; empty without data."""
    if data is None or not data.exists():
        return ""
    files = sorted(path for path in data.iterdir() if path.is_file()) if data.is_dir() else [data]
    return sha256(b"".join(path.read_bytes() for path in files))
