"""What export learns of a user's own model by trying it, before it ships or to refuse it."""

import asyncio
from collections.abc import Callable
from inspect import getsource
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers

from seqserve.models.check.eager import GraphDiffers
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.check.repeat import AnswersVary
from seqserve.models.config import ConfigInvalid
from seqserve.models.evaluate import evaluate_version
from tests.models.bring.own import HEAD, IDS, NUMBERS, classifier, export, manifest_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]


class Counting(layers.Layer):
    """Counts its calls."""

    def build(self, shape: Any) -> None:
        """Begin at zero."""
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        """Return the input, and a bit more each time."""
        self.calls.assign_add(0.1)
        return x + self.calls


class Drawing(layers.Dropout):
    """Drops while serving too."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the input with some of it dropped."""
        return super().call(x, training=True)


def own_file(folder: Path, *kinds: type) -> Path:
    """A file for --import, with the layers' sources."""
    file = folder / "own_layers.py"
    head = "import tensorflow as tf\nfrom typing import Any\nfrom keras import layers\n"
    file.write_text("\n".join([head, *map(getsource, kinds)]))
    return file


@pytest.mark.parametrize("layer", [Counting(), Drawing(0.5)], ids=["counts", "draws"])
def test_answers_that_vary_are_never_shipped(layer: layers.Layer, tmp_path: Path) -> None:
    """They look like a leak, but rows run alone vary too: --allow-leak does not let them through."""
    model = classifier(layers.Masking(0.0), layers.LSTM(4), type(layer).from_config(layer.get_config()))
    file = own_file(tmp_path, type(layer))
    with pytest.raises(AnswersVary, match=r"output 'label' of .* changes by .* asked again"):
        export(model, NUMBERS + HEAD, tmp_path, imports=[file], allow_leak=True)
    assert not (tmp_path / "models/own/1").exists()


SIGMOID = '[heads.label]\nkind = "sigmoid"\nlabels = ["a", "b", "c"]\nscores = "logits"\n'
ONE = '[heads.label]\nkind = "softmax"\nlabels = ["a"]\nscores = "logits"\n'


@pytest.mark.parametrize("given", ["", "examples = [{x = [[1, 2], [3, 1]]}]\n"], ids=["drawn", "given"])
@pytest.mark.parametrize(
    ("last", "head", "words"),
    [
        (layers.Dense(3, activation="softmax"), HEAD, ["heads.label.scores", "sums to 1", "softmax"]),
        (layers.Dense(3, activation="sigmoid"), SIGMOID, ["heads.label.scores", "0 to 1", "sigmoid"]),
        (layers.Dense(1, activation="sigmoid"), ONE, ["heads.label.labels", "always 1", 'kind = "sigmoid"']),
    ],
    ids=["softmax", "sigmoid", "one label"],
)
def test_probabilities_are_not_taken_for_logits(
    last: layers.Layer, head: str, words: list[str], given: str, tmp_path: Path
) -> None:
    """A second softmax or sigmoid would flatten them; examples of the user's own do not replace the trial."""
    model = keras.Sequential([keras.Input((None, 2)), layers.Masking(0.0), layers.LSTM(4), last])
    logits = head.replace("probabilities", "logits")
    with pytest.raises(ConfigInvalid) as caught:
        export(model, NUMBERS.replace("[features", f"{given}[features") + logits, tmp_path)
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def test_every_label_is_tried_beside_the_examples(tmp_path: Path) -> None:
    """A label that the model has no id for is refused, though no example has it."""
    model = classifier(layers.Embedding(4, 4, mask_zero=True), layers.LSTM(4), shape=(None,))
    given = IDS.replace('"c"', '"c", "d"').replace(
        "[features", 'examples = [{event = ["a", "b"]}]\n[features'
    )
    with pytest.raises(ConfigInvalid, match="labels, first_id"):
        export(model, given + HEAD, tmp_path)


@pytest.mark.parametrize("mean", [20.0, 1e6])
def test_a_good_standardized_model_is_exported(mean: float, tmp_path: Path) -> None:
    """Drawn values lie around the mean, which encodes to the pad value 0: none equals it, and they differ."""
    model = classifier(layers.Masking(0.0), layers.LSTM(8), shape=(None, 1))
    contract = f'name = "own"\n[features.x]\nkind = "numbers"\nmean = [{mean}]\nscale = [1.0]\n'
    version = export(model, contract + HEAD, tmp_path)
    (*_, last) = manifest_of(version).examples
    values = last.request["sequences"][0]["x"]
    assert len(set(values)) > len(values) / 2
    assert mean not in values
    with pytest.raises(ConfigInvalid, match="not trained here"):
        asyncio.run(evaluate_version(version, None))


def test_a_leak_that_clear_answers_hide_is_refused(tmp_path: Path) -> None:
    """A masked branch decides nearly all; the unmasked mean beside it shows only near a tie."""
    keras.utils.set_random_seed(1)
    x = keras.Input((None, 2), name="x")
    far, near = (keras.initializers.RandomNormal(0, spread, seed=1) for spread in (300, 1))
    strong = layers.Dense(3, kernel_initializer=far)(layers.LSTM(8)(layers.Masking(0.0)(x)))
    mean = layers.GlobalAveragePooling1D()(layers.Dense(4)(x))
    weak = layers.Dense(3, use_bias=False, kernel_initializer=near)(mean)
    model = keras.Model(x, layers.Softmax(name="label")(strong + weak))
    with pytest.raises(PaddingLeak, match="output 'label'"):
        export(model, NUMBERS + HEAD, tmp_path)


def test_one_bucket_of_an_open_axis_hides_no_leak(tmp_path: Path) -> None:
    """Each row is padded to it, as training's were: that is to be said, for it changes the answers."""
    model, one = classifier(layers.GlobalAveragePooling1D()), "buckets = [8]\n" + NUMBERS + HEAD
    with pytest.raises(ConfigInvalid, match=r"buckets: \[8\].* changes heads.label by 0.*say padding ="):
        export(model, one, tmp_path)
    assert manifest_of(export(model, 'padding = "right"\n' + one, tmp_path)).buckets == (8,)
    masked = classifier(layers.Masking(0.0), layers.GRU(4))
    assert manifest_of(export(masked, one, tmp_path)).masking_inputs == ("x",)


class Fickle(layers.Layer):
    """Works when it is called, not when it is traced."""

    def call(self, x: Any) -> Any:
        """Return the input, or twice the input."""
        return x if tf.executing_eagerly() else x * 2


def test_the_graph_answers_as_keras_does(tmp_path: Path) -> None:
    """A layer that computes something else when traced is refused, whatever the reason."""
    model = classifier(layers.Masking(0.0), layers.LSTM(4), Fickle())
    file = own_file(tmp_path, Fickle)
    with pytest.raises(GraphDiffers, match=r"output 'label'.* is off by"):
        export(model, NUMBERS + HEAD, tmp_path, imports=[file], allow_leak=True)


@pytest.mark.parametrize("steps", [None, 20])
def test_time_distributed_needs_a_fixed_time_axis(steps: int | None, tmp_path: Path) -> None:
    """Over an open one Keras' graph loops over the wrong axis: it is refused, with advice."""
    model = classifier(layers.TimeDistributed(layers.Dense(4)), layers.GRU(8), shape=(steps, 2))
    contract = NUMBERS + HEAD
    if steps is None:
        with pytest.raises(ConfigInvalid, match=r"is a TimeDistributed over an open .* Apply 'dense"):
            export(model, contract, tmp_path)
    else:
        fixed = contract.replace("[features", 'padding = "right"\n[features')
        assert manifest_of(export(model, fixed, tmp_path)).buckets == (20,)


@pytest.mark.parametrize(
    ("dtype", "line", "words"),
    [
        ("int32", 'unknown = "map"\nunknown_id = 9', ["features", "unknown_id"]),
        ("int32", 'unknown = "map"\nunknown_id = 0', ["features.event.unknown_id", "padding"]),
        ("int32", "pad_value = 1099511627776", ["features.event.pad_value", "1099511627776", "2147483647"]),
        ("uint8", "", ["features.event.labels", "the id 300", "0 to 255", "uint8"]),
        ("float16", "first_id = 2000", ["features.event.labels", "the id 2299", "-2048 to 2048"]),
    ],
)
def test_an_id_that_the_model_cannot_take_is_refused(
    dtype: str, line: str, words: list[str], tmp_path: Path
) -> None:
    """Outside the Embedding, taken for padding, or wrapped by the dtype of the input."""
    labels = [f"l{n}" for n in range(300 if dtype != "int32" else 3)]
    ids = 4 if dtype == "int32" else 400
    model = classifier(layers.Embedding(ids, 4, mask_zero=True), layers.LSTM(4), shape=(None,), dtype=dtype)
    first = "" if "first_id" in line else "first_id = 1\n"
    event = f'name = "own"\n[features.event]\nkind = "categories"\nlabels = {labels}\n{first}{line}\n'
    with pytest.raises(ConfigInvalid) as caught:
        export(model, event + HEAD, tmp_path)
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


class Straight(layers.Layer):
    """Needs the number of steps when it is traced."""

    def compute_output_shape(self, shape: Any) -> Any:
        """Answer Keras, so that it does not call the layer for it."""
        return (shape[0], shape[2])

    def call(self, x: Any) -> Any:
        """Return the sum of the steps, one by one."""
        return sum(x[:, step] for step in range(x.shape[1]))


def strided() -> keras.Model:
    """A label for every other step."""
    return classifier(layers.Conv1D(4, 3, strides=2, padding="same"))


def long_enough() -> keras.Model:
    """No fewer than three steps."""
    return classifier(layers.Conv1D(4, 3), layers.GRU(4))


STEPS = NUMBERS + HEAD + 'per = "step"\n'


@pytest.mark.parametrize(
    ("model", "contract", "words"),
    [
        (
            strided,
            "buckets = [8, 16, 32, 64, 128]\n" + STEPS,
            ["heads.label.per", "of 5 steps the model gives 3", "strides"],
        ),
        (long_enough, NUMBERS + HEAD, ["features: the model fails on a sequence of 1 steps"]),
        (lambda: classifier(Straight()), NUMBERS + HEAD, ["own: ", "cannot be traced"]),
        (long_enough, NUMBERS.replace("features.x", "features.class") + HEAD, ["features.class", "Python"]),
        (long_enough, NUMBERS.replace("features.x", "features.self") + HEAD, ["features.self", "Python"]),
        (long_enough, NUMBERS.replace('columns = ["u", "v"]', "width = 100000000000") + HEAD, ["65536"]),
        (
            long_enough,
            NUMBERS + SIGMOID + "thresholds = [0.5, 1.5, 0.5]\n",
            ["heads.label", "1.5 is not a prob"],
        ),
        (long_enough, NUMBERS + "pad_value = 1e300\n" + HEAD, ["features.x.pad_value", "1e+300"]),
    ],
    ids=["strided", "one step", "untraceable", "class", "self", "width", "threshold", "pad"],
)
def test_what_a_model_cannot_do_is_said_in_a_line(
    model: Callable[[], keras.Model], contract: str, words: list[str], tmp_path: Path
) -> None:
    """The message is no traceback of Keras': it names the field or the model, and what was tried."""
    file = own_file(tmp_path, Straight)
    with pytest.raises(ConfigInvalid) as caught:
        export(model(), contract, tmp_path, imports=[file])
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def test_an_import_that_exits_is_refused(tmp_path: Path) -> None:
    """A script is not a file of layers."""
    file = tmp_path / "script.py"
    file.write_text("import sys; sys.exit(3)")
    with pytest.raises(ConfigInvalid, match=r"--import .*script\.py: SystemExit"):
        export(classifier(layers.GRU(4)), NUMBERS + HEAD, tmp_path, imports=[file])


@pytest.mark.parametrize("name", ["2steps", "class", "self", "my mask"])
def test_a_mask_input_may_have_any_name(name: str, tmp_path: Path) -> None:
    """The signature gives it a name that a graph function's argument can have."""
    x, steps = keras.Input((None, 2), name="x"), keras.Input((None,), dtype="bool", name=name)
    state = layers.LSTM(4)(x, mask=steps)
    model = keras.Model([x, steps], layers.Dense(3, activation="softmax", name="label")(state))
    contract = NUMBERS.replace("[features", f'mask_input = "{name}"\n[features')
    assert str(manifest_of(export(model, contract + HEAD, tmp_path)).mask_input).isidentifier()
