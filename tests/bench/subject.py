"""What is served in a run: a version, the items that callers send it, and their requests at either door."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from seqserve.v1 import sequence_pb2, translation_pb2
from tests.bench.clients import http
from tests.bench.processes import REPOSITORY, NotStarted

CACHE = Path("build/bench")
LABELS = {"translation": "translation", "sequence": "events"}
VERB = {"translation": "translate", "sequence": "predict"}
MEMBER = {"translation": "texts", "sequence": "sequences"}
ANSWERS = {"translation": "translations", "sequence": "predictions"}
METHOD = {
    "translation": "/seqserve.v1.TranslationService/Translate",
    "sequence": "/seqserve.v1.SequenceService/Predict",
}
Task = Literal["translation", "sequence"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A version to serve.

    Args:
        version: ROOT/NAME/NUMBER; nothing else lies under ROOT.
        plain: the same weights, finished rows computed to the end of their batch; where there is one.
    """

    task: Task
    version: Path
    plain: Path | None
    items: tuple[Any, ...]

    @property
    def label(self) -> str:
        """What the report calls it."""
        return LABELS[self.task]

    @property
    def noun(self) -> str:
        """What its items are."""
        return MEMBER[self.task]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.version.parent.name

    @property
    def root(self) -> Path:
        """The model root."""
        return self.version.parents[1]

    @property
    def packed(self) -> tuple[str, ...]:
        """The items as JSON: what can be a key."""
        return tuple(json.dumps(item) for item in self.items)

    def body(self, items: Sequence[Any]) -> bytes:
        """Return a REST body that asks for some items."""
        return orjson.dumps({MEMBER[self.task]: list(items)})

    def rest(self, port: int, each: int = 1, timeout: str | None = None, key: str = "") -> list[bytes]:
        """Return REST requests of so many items each."""
        return [self.request(port, items, timeout, key) for items in self._groups(each)]

    def request(self, port: int, items: Sequence[Any], timeout: str | None = None, key: str = "") -> bytes:
        """Return a REST request of some items."""
        return http(port, f"/v1/models/{self.name}:{VERB[self.task]}", self.body(items), timeout, key)

    def grpc(self, each: int = 1) -> list[bytes]:
        """Return gRPC requests of so many items each."""
        return [self._message(items) for items in self._groups(each)]

    def answers(self, body: bytes) -> list[str]:
        """Return the texts, or the labels of the first head that has them, of a REST answer."""
        items = orjson.loads(body)[ANSWERS[self.task]]
        if self.task == "translation":
            return [answer["text"] for answer in items]
        return [next(h["label"] for h in answer["heads"].values() if "label" in h) for answer in items]

    def _groups(self, each: int) -> list[Sequence[Any]]:
        return [self.items[at : at + each] for at in range(0, len(self.items) - each + 1, each)]

    def _message(self, items: Sequence[Any]) -> bytes:
        if self.task == "translation":
            request = translation_pb2.TranslateRequest(model={"name": self.name}, texts=list(items))
            return request.SerializeToString()
        asked = sequence_pb2.PredictRequest(model={"name": self.name})
        for item in items:
            features = asked.sequences.add().features
            for feature, values in item.items():
                texts = values and isinstance(values[0], str)
                kind = features[feature].strings if texts else features[feature].numbers
                kind.values.extend(values)
        return asked.SerializeToString()


def made() -> tuple[Subject, Subject]:
    """Return the made translation and event models, made anew where the code that makes them has changed."""
    folder = REPOSITORY / CACHE / f"made-{_key()}"
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        command = [sys.executable, "-m", "tests.bench.made", str(aside)]
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if result.returncode:
            raise NotStarted(f"the models cannot be made:\n{result.stderr[-3000:]}")
        aside.rename(folder)
    return _subject(folder / "translation"), _subject(folder / "sequence")


def _key() -> str:
    """Hash the code that decides what a made model is."""
    digest = hashlib.sha256(sys.version.encode())
    sources = [*(REPOSITORY / "models").rglob("*.py"), *(REPOSITORY / "service/contract").rglob("*.py")]
    for path in [*sorted(sources), Path(__file__).with_name("made.py")]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _subject(folder: Path) -> Subject:
    (version,) = folder.glob("shipped/*/1")
    plain = next(folder.glob("plain/*/1"), None)
    task: Task = "translation" if folder.name == "translation" else "sequence"
    return Subject(task, version, plain, tuple(json.loads((folder / "items.json").read_text())))


def real(version: Path, texts: Path, plain: Path | None) -> Subject:
    """Return a version of the user's, and lines of a file (or of a .gz) to send it."""
    root = REPOSITORY / CACHE / "real"
    shutil.rmtree(root, ignore_errors=True)
    packed = texts.read_bytes()
    lines = (gzip.decompress(packed) if texts.suffix == ".gz" else packed).decode().splitlines()
    items = tuple(line.strip() for line in lines if line.strip())
    linked = _linked(root / "shipped", version)
    return Subject("translation", linked, plain and _linked(root / "plain", plain), items)


def _linked(root: Path, version: Path) -> Path:
    """Put one version alone under a root."""
    version = version.absolute()
    target = root / version.parent.name / version.name
    target.parent.mkdir(parents=True)
    target.symlink_to(version)
    return target
