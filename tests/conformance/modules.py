"""The models that the suite serves: tiny graphs, one signature for each thing that is assumed."""

import os
import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

SERVING = "serving_default"
MANIFEST = "manifest"
LIMIT = 10.0
FLOAT = tf.TensorSpec([None], tf.float32, "x")
LISTS = {"a": [1.0, 2.0], "b": [1.0, 2.0]}
WARMUPS = {"slow": {"steps": 1}}
"""What a warm-up record of a signature feeds; of any other, LISTS."""


class Small(tf.Module):
    """Adds, and says which version it is: what the tests of versions need."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = tf.Variable(number, dtype=tf.int64)  # in a file of its own, which can be damaged
        self.weights = tf.Variable(tf.zeros([1000]))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, "a"), tf.TensorSpec([None], tf.float32, "b")]
    )
    def add(self, a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sum two lists."""
        return {"sum": a + b + self.weights[0]}

    @tf.function(input_signature=[])
    def manifest(self) -> dict[str, tf.Tensor]:
        """Take nothing; return bytes, and the version."""
        names, contents = tf.constant([b"manifest.json", b"x"]), tf.constant([b"{}", b"\x00\xff\x00"])
        return {"names": names, "contents": contents, "number": self.number + 0}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "steps")])
    def slow(self, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take that many steps."""
        return {"steps": tf.while_loop(lambda i: i < steps, lambda i: (i + 1,), (tf.constant(0),))[0]}


class Demo(Small):
    """And everything else."""

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def rows(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sum each row."""
        return {"sum": tf.reduce_sum(x, 1)}

    @tf.function(input_signature=[FLOAT])
    def checked(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Fail from LIMIT up, with a long message."""
        with tf.control_dependencies([tf.debugging.assert_less(x, LIMIT, "must be less " + "," * 1100)]):
            return {"y": tf.identity(x)}

    @tf.function(input_signature=[FLOAT])
    def endless(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Loop for as long as no entry is negative."""
        y = tf.while_loop(lambda y: tf.reduce_all(y >= 0), lambda y: (y + 1 - 1,), (x,))[0]
        return {"y": y, "same": tf.identity(y)}

    @tf.function(
        input_signature=[
            tf.TensorSpec(None, dtype, dtype.name)
            for dtype in (tf.float32, tf.float64, tf.int32, tf.int64, tf.bool, tf.string)
        ]
    )
    def echo(self, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return one tensor of each type."""
        return {value.dtype.name: tf.identity(value) for value in values}

    @tf.function(input_signature=[FLOAT])
    def large(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return what came."""
        return {"y": tf.identity(x)}


def write_version(model: Path, number: int, whole: bool = False, warmup: str | None = None) -> Path:
    """Write a version aside, then move it to its place by one rename; return the place.

    Args:
        whole: with every signature.
        warmup: the signature that the version's warm-up record calls.
    """
    module = Demo(number) if whole else Small(number)
    signatures = {SERVING: module.add, MANIFEST: module.manifest, "slow": module.slow}
    if isinstance(module, Demo):
        names = ("rows", "checked", "endless", "echo", "large")
        signatures.update({name: getattr(module, name) for name in names})
    aside = model.parent / f".{model.name}.{number}"
    tf.saved_model.save(module, str(aside), signatures)
    if warmup is not None:
        (aside / "assets.extra").mkdir()
        (aside / "assets.extra" / "tf_serving_warmup_requests").write_bytes(_record(warmup))
    return publish(aside, model / str(number))


def shorten(version: Path) -> None:
    """Cut the end of a version's weights off."""
    data = next((version / "variables").glob("variables.data-*"))
    data.write_bytes(data.read_bytes()[:-2000])


def publish(aside: Path, place: Path) -> Path:
    """Move a finished folder to its place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.rename(aside, place)
    return place


def _record(signature: str) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, value in WARMUPS.get(signature, LISTS).items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            writer.write(log.SerializeToString())
        return Path(file.name).read_bytes()
