"""SavedModels of all sorts for the tests of their export, and the contracts that they are exported by."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from seqserve.models.cli.shipping import export_own

NUMBERS = 'buckets = [8, 40]\n[features.x]\nkind = "numbers"\ncolumns = ["u", "v"]\n'
SOFTMAX = '[heads.label]\nkind = "softmax"\nlabels = ["a", "b", "c"]\nscores = "probabilities"\n'
NOTE = '[features.note]\nkind = "text"\n'
EXAMPLES = '[[examples]]\nnote = "two dogs"\n[[examples]]\nnote = "a cat sits on the mat today"\n'
TEXTS = ["two dogs", "a cat sits on the mat", "Zürich! nowhere to be seen", "dogs"]
SENTENCES = ["two dogs run", "a cat sits", "dogs sit on the mat"]
BY_LINE = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
GERMAN = {"two": "zwei", "dogs": "Hunde", "cat": "Katze", "a": "eine", "sits": "sitzt"}


def export(folder: Path, contract: str, root: Path, **options: Any) -> Path:
    """Export what lies in a folder by a contract, given without its name."""
    toml = folder.parent / f"{folder.name}.toml"
    toml.write_text(f'name = "own"\n{contract}', "utf-8")
    return export_own(folder, toml, root, **{"version": None, "imports": [], **options})


def sequential(kind: Any, *body: Any) -> Any:
    """A Sequential of Keras 2 or 3 over rows of two numbers."""
    begin = kind.Input if kind is keras else kind.layers.InputLayer
    dense = kind.layers.Dense(3, activation="softmax")
    return kind.Sequential([begin((None, 2), name="rows"), *body, dense])


def classifier_of_texts(kind: Any) -> Any:
    """A classifier of texts of Keras 2 or 3, its TextVectorization inside."""
    kind.utils.set_random_seed(3)
    vectorize = kind.layers.TextVectorization()
    vectorize.adapt(SENTENCES)
    begin, kinds = kind.Input if kind is keras else kind.layers.InputLayer, kind.layers
    body = [vectorize, kinds.Embedding(20, 4, mask_zero=True), kinds.GRU(6), kinds.Dense(3, "softmax")]
    return kind.Sequential([begin((1,), dtype="string"), *body])


class Words(tf.Module):
    """A translator word by word, with a vocabulary from a file, and a loop in its graph."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        file.write_text("".join(f"{word}\n" for word in GERMAN), "utf-8")
        self.ids = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(file), *BY_LINE), -1)
        self.words = tf.Variable([*GERMAN.values(), "?"])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def translate(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the translations (batch)."""
        ids = self.ids.lookup(tf.strings.split(tf.strings.lower(text)).to_tensor())
        written = tf.fill(tf.shape(text), "")
        for step in tf.range(tf.shape(ids)[1]):
            word = tf.gather(
                self.words, tf.where(ids[:, step] < 0, tf.cast(len(GERMAN), tf.int64), ids[:, step])
            )
            written = tf.strings.join([written, word], " ")
        return {"german": tf.strings.strip(tf.strings.regex_replace(written, r"( \?)+$", ""))}


class Totals(tf.Module):
    """Sums over steps of rows, by signatures of several forms."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)

    def save(self, folder: Path, *shape: int | None, function: str = "total") -> Path:
        """Save one function by the shape of its input."""
        spec = tf.TensorSpec(shape or [None, None], tf.float32, name="x")
        traced = tf.function(getattr(self, function)).get_concrete_function(spec)
        tf.saved_model.save(self, str(folder), signatures={"serving_default": traced})
        return folder

    def total(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return sums (batch)."""
        return {"y": tf.reduce_sum(x * self.scale, axis=1)}

    def by_python(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return sums (batch) made by Python."""
        total = tf.py_function(lambda values: tf.reduce_sum(values, axis=1), [x], tf.float32)
        return {"y": tf.ensure_shape(total, [None])}

    def without_shape(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return sums whose axes nobody knows while the graph is made."""
        total, unknown = tf.reduce_sum(x, axis=1), tf.TensorShape(None)
        return {"y": tf.raw_ops.PlaceholderWithDefault(input=total, shape=unknown)}


def save_parsing(folder: Path) -> Path:
    """Save a model that takes messages."""

    class Parsing(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def total(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([4], tf.float32)})
            return {"y": tf.reduce_sum(parsed["x"], axis=1)}

    module = Parsing()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.total})
    return folder


def save_as_tensorflow_1(folder: Path, by_resource: bool) -> np.ndarray:
    """Save a graph of a session, with a table, and return what it answers to "dogs" and to "none"."""
    v1, file = tf.compat.v1, folder.parent / "words.txt"
    file.write_text("two\ndogs\ncat\n", "utf-8")
    with tf.Graph().as_default(), v1.Session() as session:
        note = v1.placeholder(tf.string, [None], "note")
        table = v1.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(file), *BY_LINE), 3)
        start = np.arange(12, dtype=np.float32).reshape(4, 3)
        values = v1.get_variable("values", initializer=start, use_resource=by_resource)
        y = tf.gather(values, table.lookup(note))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        signature = v1.saved_model.predict_signature_def({"note": note}, {"y": y})
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
        return np.asarray(session.run(y, {note: ["dogs", "none"]}))
