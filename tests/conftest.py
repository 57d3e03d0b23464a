"""What every test shares: hypothesis without its clock, and two small models trained once a run."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from seqserve.service.contract.manifest import FILE_NAME
from tests.tfserving.process import serving

if TYPE_CHECKING:
    from tests.tfserving.reload import ModelServer

settings.register_profile("seqserve", deadline=None)  # the machine may be busy
settings.load_profile("seqserve")

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


@pytest.fixture(scope="session")
def text_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parallel texts, as files of the form that Multi30k has."""
    return _texts(tmp_path_factory.mktemp("texts"), seed=1)


def _texts(folder: Path, seed: int) -> Path:
    from seqserve.models.data.phrases import phrase_pairs

    for split, name, count in (("train", "train", 400), ("validation", "val", 40)):
        pairs = phrase_pairs(split, count, seed=seed)  # type: ignore[arg-type]
        for language, lines in (("en", [p.source for p in pairs]), ("de", [p.target for p in pairs])):
            packed = gzip.compress("".join(f"{line}\n" for line in lines).encode())
            (folder / f"{name}.{language}.gz").write_bytes(packed)
    return folder


@pytest.fixture(scope="session")
def log_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An event log, as a file of the form that the public ones have."""
    return _log(tmp_path_factory.mktemp("log") / "shop.csv", {})


def _log(path: Path, renamed: dict[str, str]) -> Path:
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
def root(tmp_path_factory: pytest.TempPathFactory, text_data: Path, log_data: Path) -> Path:
    """A model root with a small `en-de` and a small `shop`, trained by the real command."""
    from seqserve.models.cli import train_model
    from seqserve.models.config import read_config

    folder = tmp_path_factory.mktemp("models")
    train_model(read_config(TRANSLATION, "tests"), text_data, folder, resume=False)
    train_model(read_config(EVENTS, "tests"), log_data, folder, resume=False)
    return folder


@pytest.fixture(scope="session")
def successor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with other versions of both models: another vocabulary, other labels, in another order."""
    from seqserve.models.cli import train_model
    from seqserve.models.config import read_config

    folder = tmp_path_factory.mktemp("successor")
    texts = _texts(tmp_path_factory.mktemp("other-texts"), seed=2)
    log = _log(tmp_path_factory.mktemp("other-log") / "shop.csv", {"pay": "a_payment"})
    train_model(read_config(TRANSLATION, "tests"), texts, folder, resume=False)
    train_model(read_config(EVENTS, "tests"), log, folder, resume=False)
    return folder


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory, text_data: Path, log_data: Path) -> dict[str, Path]:
    """What each small model was trained on, by the model's name."""
    from tests.models.small import waves, write_series, write_table

    folder = tmp_path_factory.mktemp("kinds-data")
    series = write_series(folder / "waves.ts", waves(120, seed=1))
    table = write_table(folder / "loads.csv", 1020)
    return {"en-de": text_data, "shop": log_data, "waves": series, "steps": log_data, "loads": table}


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory, data_of: dict[str, Path]) -> Path:
    """A root with one small model of each further kind: classifier, tagger, forecaster."""
    from seqserve.models.cli import train_model
    from seqserve.models.config import read_config
    from tests.models.small import CLASSIFIER, FORECASTER, TAGGER

    folder = tmp_path_factory.mktemp("kinds")
    for config in (CLASSIFIER, TAGGER, FORECASTER):
        train_model(read_config(config, "tests"), data_of[config["name"]], folder, resume=False)
    return folder


@pytest.fixture(scope="session")
def model_server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ModelServer]":
    """A model server for the whole run; each test tells it what to serve by `serve`."""
    from tests.tfserving.reload import ModelServer, config_file

    path = tmp_path_factory.mktemp("config") / "models.config"
    path.write_text(str(config_file({"shop": root / "shop"})))
    with serving(path) as server:
        yield ModelServer(server.address, root / "shop")


@pytest.fixture(scope="session")
def refused_too(root: Path, kinds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of each kind, and one refused for each reason that a version can be."""
    folder = tmp_path_factory.mktemp("parity")
    for version in (*root.glob("*/1"), *kinds.glob("*/1")):
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
