"""What every test shares: hypothesis without its clock, and two small models trained once a run."""

import gzip
import io
import json
import logging
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from hypothesis import settings

from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.logs import JsonFormatter
from tests.tfserving.process import serving
from tests.trained import Trained, provide, wanted

if TYPE_CHECKING:
    from tests.doors import Both
    from tests.tfserving.reload import ModelServer

SLOW = {"trained", "translators", "model_server"}
"""Fixtures that train or start a program: what uses one, itself or through another, is marked `slow`."""

os.environ.setdefault("SEQSERVE_LAME_DUCK_SECONDS", "0")  # what a test stops has no callers to send elsewhere
settings.register_profile("seqserve", deadline=None)  # the machine may be busy
settings.load_profile("seqserve")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by its fixtures, and put the modules that take long first.

    Each module goes to one process whole; the last ones should be short, so that all processes end together.
    """
    for item in items:
        if item.path.parent.name == "conformance" or not SLOW.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: ("models" not in item.path.parts, item.path not in long))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Refuse to start a program for a test that is not marked: the quick run would no longer be quick."""
    marked = item.get_closest_marker("slow")
    with nullcontext() if marked else patch.object(subprocess, "Popen", _refused):
        return (yield)


def _refused(*command: object, **_: object) -> None:
    raise AssertionError(f"mark the test `slow`, as it starts a program: {command}")


TRANSLATION: dict[str, Any] = {
    "name": "en-de",
    "task": "translation",
    "data": {"kind": "parallel"},
    "model": {"vocabulary_size": 120, "embedding": 16, "units": 24, "dropout": 0.1},
    "training": {"epochs": 12, "batch_size": 32, "learning_rate": 0.01},
    "serving": {"buckets": [8, 16, 48], "text_characters": 200, "output_length": 24},
}
EVENTS: dict[str, Any] = {
    "name": "shop",
    "task": "events",
    "data": {"kind": "log", "event": "event", "elapsed": "minutes", "unit": "minutes"},
    "model": {"embedding": 8, "units": 12, "dropout": 0.1},
    "training": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01},
    "serving": {"buckets": [4, 8, 32]},
}


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """Return what the doors' edges log, as it is written in service."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(JsonFormatter())
    edges = [logging.getLogger(f"seqserve.service.{door}.edge") for door in ("rest", "rpc")]
    for logger in edges:
        logger.addHandler(handler)
    yield handler.stream
    for logger in edges:
        logger.removeHandler(handler)


@pytest.fixture(scope="session")
def text_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parallel texts, as files of the form that Multi30k has."""
    return _texts(tmp_path_factory.mktemp("texts"), seed=1)


def _texts(folder: Path, seed: int) -> Path:
    from seqserve.models.data.phrases import phrase_pairs

    for split, name, count in (("train", "train", 400), ("validation", "val", 40)):
        pairs = phrase_pairs(split, count, seed=seed)  # type: ignore[arg-type]
        for language, lines in (("en", [p.source for p in pairs]), ("de", [p.target for p in pairs])):
            packed = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
            (folder / f"{name}.{language}.gz").write_bytes(packed)
    return folder


@pytest.fixture(scope="session")
def log_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An event log, as a file of the form that the public ones have."""
    return write_log(tmp_path_factory.mktemp("log") / "shop.csv", {})


def write_log(path: Path, renamed: dict[str, str]) -> Path:
    import datetime

    from seqserve.models.data.journeys import journeys

    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    lines = ["CaseID,ActivityID,CompleteTimestamp"]
    for number, case in enumerate(journeys(200, seed=1)):
        for event, seconds in zip(case.events, case.seconds, strict=True):
            label = renamed.get(event, event)
            lines.append(f"{number},{label},{start + datetime.timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return what gives models, each Wanted, in a root of their own."""
    return lambda *models: provide(tmp_path_factory.mktemp("models"), *models)


@pytest.fixture(scope="session")
def root(trained: Trained, text_data: Path, log_data: Path) -> Path:
    """A model root with a small `en-de` and a small `shop`, trained by the real command."""
    return trained(wanted(TRANSLATION, text_data), wanted(EVENTS, log_data))


@pytest.fixture(scope="session")
def successor(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with other versions of both models: another vocabulary, other labels, in another order."""
    texts = _texts(tmp_path_factory.mktemp("other-texts"), seed=2)
    log = write_log(tmp_path_factory.mktemp("other-log") / "shop.csv", {"pay": "a_payment"})
    return trained(wanted(TRANSLATION, texts), wanted(EVENTS, log))


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory, text_data: Path, log_data: Path) -> dict[str, Path]:
    """What each small model was trained on, by the model's name."""
    from tests.models.small import waves, write_series, write_table

    folder = tmp_path_factory.mktemp("kinds-data")
    series = write_series(folder / "waves.ts", waves(150, seed=1))
    table = write_table(folder / "loads.csv", 1020)
    return {"en-de": text_data, "shop": log_data, "waves": series, "steps": log_data, "loads": table}


@pytest.fixture(scope="session")
def kinds(trained: Trained, data_of: dict[str, Path]) -> Path:
    """A root with one small model of each further kind: classifier, tagger, forecaster."""
    from tests.models.small import CLASSIFIER, FORECASTER, TAGGER

    return trained(*(wanted(table, data_of[table["name"]]) for table in (CLASSIFIER, TAGGER, FORECASTER)))


@pytest.fixture(scope="session")
def translators(trained: Trained) -> Path:
    """A root with the translators of docs/bring.md, trained in seconds, exported by the page's commands."""
    from tests.translators import STYLES

    return trained(*STYLES)


@pytest.fixture(scope="session")
def brought(trained: Trained) -> Path:
    """A root with sequence models of a user's own: static features, several masks, a window, text."""
    from tests.brought import OWN

    return trained(*OWN)


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ModelServer]":
    """A model server for the whole run; each test tells it what to serve by `serve`."""
    from tests.tfserving.reload import ModelServer, config_file

    path = tmp_path_factory.mktemp("config") / "models.config"
    path.write_text(str(config_file({})))
    with serving(path) as server:
        yield ModelServer(server.address)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(root: Path) -> "AsyncIterator[Both]":
    """Both doors of a service with `en-de` and `shop`, for a module whose tests run on its one loop."""
    from tests.doors import both_doors

    async with both_doors(root) as both:
        yield both


@pytest.fixture(scope="session")
def refused_too(
    root: Path, kinds: Path, translators: Path, brought: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small model of each kind, translators of others, and one refused for each reason that there is."""
    folder = tmp_path_factory.mktemp("parity")
    for version in (*root.glob("*/1"), *kinds.glob("*/1"), *translators.glob("*/1"), *brought.glob("*/1")):
        shutil.copytree(version, folder / version.parent.name / "1")
    for name in ("golden", "bare", "invalid", "flipped"):
        shutil.copytree(root / "en-de" / "1", folder / name / "1")
    manifest = json.loads((root / "en-de/1/assets" / FILE_NAME).read_bytes())
    manifest["examples"][0]["items"][0]["text"] = "another"
    (folder / "golden/1/assets" / FILE_NAME).write_text(json.dumps(manifest))
    (folder / "bare/1/assets" / FILE_NAME).unlink()
    (folder / "invalid/1/assets" / FILE_NAME).write_text(json.dumps({**manifest, "buckets": [4, 2]}))
    tokenizer = folder / "flipped/1/assets" / manifest["features"]["source_ids"]["tokenizer"]
    *kept, last = tokenizer.read_bytes()
    tokenizer.write_bytes(bytes([*kept, last ^ 1]))
    for place in ("en-de/2", "copied/1"):  # the first is refused for its task, the second is not
        shutil.copytree(root / "shop" / "1", folder / place)
    return folder
