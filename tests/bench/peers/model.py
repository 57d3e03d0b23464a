"""The SavedModel as a user without the gateway calls it: load, encode, pad, run, decode, by hand.

Every peer uses it, because users of every framework would write the same; `service` is not imported.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

Row = dict[str, np.ndarray]
"""One encoded item: inputs (time) by name."""


class Model:
    """A loaded version; the two tasks differ in how an item is encoded and its answer read."""

    request: str
    signature: str

    def __init__(self, folder: Path, manifest: dict[str, Any], rows: int) -> None:
        self.manifest = manifest
        self._rows = rows
        loaded = tf.saved_model.load(str(folder))
        self._loaded = loaded  # a signature alone does not keep the variables
        self._call = loaded.signatures[self.signature]
        self._inputs = manifest["signatures"][self.signature]["inputs"]

    def encode(self, item: Any) -> Row:
        """Return an item's row."""
        raise NotImplementedError

    def decode(self, outputs: Row) -> list[str]:
        """Return the answers of a batch's outputs."""
        raise NotImplementedError

    def answer(self, items: Sequence[Any]) -> list[str]:
        """Return each item's text or label, running at most so many rows at once."""
        rows = [self.encode(item) for item in items]
        starts = range(0, len(rows), self._rows)
        return [text for at in starts for text in self.run(rows[at : at + self._rows])]

    def answer_all(self, requests: Sequence[Sequence[Any]]) -> list[list[str]]:
        """Answer the items of several requests together, and tell them apart again."""
        answers = iter(self.answer([item for items in requests for item in items]))
        return [[next(answers) for _ in items] for items in requests]

    def run(self, rows: list[Row]) -> list[str]:
        """Pad the rows to the longest, run them, and read the answers."""
        outputs = self._call(**{name: tf.constant(values) for name, values in self.batch(rows).items()})
        return self.decode({name: value.numpy() for name, value in outputs.items()})

    def batch(self, rows: list[Row]) -> Row:
        """Return the inputs (batch, longest) of the rows, padded on the right."""
        longest = max(len(row[name]) for row in rows for name in row)
        return {name: self._padded([row[name] for row in rows], name, longest) for name in rows[0]}

    def _padded(self, values: list[np.ndarray], name: str, longest: int) -> np.ndarray:
        tensor = self._inputs[name]
        padded = np.full((len(values), longest), tensor["pad_value"], tensor["dtype"])
        for row, value in zip(padded, values, strict=True):
            row[: len(value)] = value
        return padded


class Translation(Model):
    """Texts to texts, greedily."""

    request, signature = "texts", "greedy"

    def __init__(self, folder: Path, manifest: dict[str, Any], rows: int) -> None:
        super().__init__(folder, manifest, rows)
        ((self._source, feature),) = manifest["features"].items()
        self._end = feature["special_ids"]["end"]
        self._pieces = sentencepiece.SentencePieceProcessor(
            model_file=str(folder / "assets" / feature["tokenizer"])
        )

    def encode(self, item: str) -> Row:
        return {self._source: np.array([*self._pieces.encode(item), self._end], np.int32)}

    def batch(self, rows: list[Row]) -> Row:
        options = {
            "max_length": np.full(len(rows), self.manifest["decode"]["default_length"], np.int32),
            "length_penalty": np.ones(len(rows), np.float32),
            "alignment": np.zeros(len(rows), bool),
        }
        # a version of an older release has no `alignment`
        return super().batch(rows) | {name: options[name] for name in options.keys() & self._inputs.keys()}

    def decode(self, outputs: Row) -> list[str]:
        best = zip(outputs["ids"][:, 0], outputs["lengths"][:, 0], strict=True)
        return self.texts([ids[:length].tolist() for ids, length in best])

    def texts(self, hypotheses: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each list of ids, up to its end."""
        return self._pieces.decode([[i for i in ids if i != self._end] for ids in hypotheses])


class Events(Model):
    """Sequences of events to the best label of the first head that has labels."""

    request, signature = "sequences", "serving_default"

    def __init__(self, folder: Path, manifest: dict[str, Any], rows: int) -> None:
        super().__init__(folder, manifest, rows)
        heads = manifest["heads"].items()
        self._head, self._labels = next((n, h["labels"]) for n, h in heads if h["kind"] == "softmax")
        self._ids = {
            name: {label: feature["first_id"] + i for i, label in enumerate(feature["labels"])}
            for name, feature in manifest["features"].items()
            if feature["kind"] == "categories"
        }

    def encode(self, item: dict[str, list[Any]]) -> Row:
        return {name: self._feature(name, values) for name, values in item.items()}

    def _feature(self, name: str, values: list[Any]) -> np.ndarray:
        feature = self.manifest["features"][name]
        if feature["kind"] == "categories":
            return np.array([self._ids[name][str(label)] for label in values], np.int32)
        times = np.array(values, np.float64)
        return (np.log1p(times) if feature["transform"] == "log1p" else times) / feature["scale"]

    def decode(self, outputs: Row) -> list[str]:
        return [self._labels[best] for best in outputs[self._head].argmax(axis=-1)]


KINDS: dict[str, type[Model]] = {"translation": Translation, "sequence": Events}


def load(folder: Path, rows: int, kinds: Mapping[str, type[Model]] = KINDS) -> Model:
    """Load a version on one thread, and answer its examples, so that the first caller does not wait."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    manifest = json.loads((folder / "assets/manifest.json").read_bytes())
    model = kinds[manifest["task"]](folder, manifest, rows)
    for example in manifest["examples"]:
        model.answer(example["request"][model.request])
    return model
