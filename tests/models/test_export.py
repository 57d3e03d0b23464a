"""Export: a version explains itself, is copied whole, and is never written over."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from seqserve.models.check import check_version
from seqserve.models.config import ConfigInvalid
from seqserve.models.draft import clearest
from seqserve.models.export import WARMUP, VersionExists, export_version, publish
from seqserve.service import errors
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.manifest_file import dump_manifest, parse_manifest
from tests.models.bodies import CASES, draft_of

pytestmark = pytest.mark.slow


def session_of(folder: Path) -> tuple[tf.compat.v1.Session, Any]:
    """Load as TensorFlow Serving does."""
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        return session, tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def


def test_the_version_gives_its_own_contract(version: Path) -> None:
    """The signature `manifest`, called on a version that lies elsewhere, returns the files' very bytes."""
    session, signatures = session_of(version)
    outputs = {name: tensor.name for name, tensor in signatures["manifest"].outputs.items()}
    given = session.run(outputs)
    files = {name.decode(): content for name, content in zip(given["names"], given["contents"], strict=True)}
    assert files == {path.name: path.read_bytes() for path in (version / "assets").iterdir()}
    assert FILE_NAME in files


def test_signatures_are_what_the_manifest_says(version: Path) -> None:
    """Names and dtypes of every input and output agree between graph and manifest."""
    manifest = parse_manifest((version / "assets" / FILE_NAME).read_bytes())
    _, signatures = session_of(version)
    for name, declared in manifest.signatures.items():
        for tensors, graph in (
            (declared.inputs, signatures[name].inputs),
            (declared.outputs, signatures[name].outputs),
        ):
            assert {n: t.dtype for n, t in tensors.items()} == {
                n: tf.dtypes.as_dtype(t.dtype).name for n, t in graph.items()
            }


def test_warmup_records_are_replayed(version: Path) -> None:
    """Every record is an official PredictionLog that the graph answers, and each input has rows."""
    session, signatures = session_of(version)
    records = list(tf.data.TFRecordDataset(str(version / WARMUP)).as_numpy_iterator())
    assert 3 <= len(records) <= 1000
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = signatures[request.model_spec.signature_name]
        feeds = {signature.inputs[n].name: tf.make_ndarray(t) for n, t in request.inputs.items()}
        assert all(value.ndim > 0 for value in feeds.values())
        session.run([tensor.name for tensor in signature.outputs.values()], feeds)


def test_publish_copies_the_bytes_and_never_overwrites(version: Path, tmp_path: Path) -> None:
    """The copy is the same version under a new number; a changed source is refused."""
    name = version.parent.name
    assert publish(version, tmp_path) == tmp_path / name / "1"
    assert publish(version, tmp_path) == tmp_path / name / "2"
    assert publish(version, tmp_path, 7) == tmp_path / name / "7"
    with pytest.raises(VersionExists):
        publish(version, tmp_path, 7)
    check_version(tmp_path / name / "7")
    (tmp_path / name / "2" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(errors.FileChanged):
        publish(tmp_path / name / "2", tmp_path)
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["1", "2", "7"]


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only, a file, or full: one line says where and why, and nothing is left behind."""
    source, root = tmp_path / "shop" / "1", tmp_path / "root"
    (source / "assets").mkdir(parents=True)
    manifest = draft_of(CASES["mean over real steps"][0]()).manifest
    (source / "assets" / FILE_NAME).write_bytes(dump_manifest(manifest))
    root.write_text("a file")
    with pytest.raises(ConfigInvalid, match=r"root/shop cannot be written: Not a directory; give a root"):
        publish(source, root)
    root.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", _failing(errno.EROFS))
        with pytest.raises(ConfigInvalid, match=r"root/shop cannot be written: Read-only file system"):
            publish(source, root)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", _failing(errno.ENOSPC))
        with pytest.raises(ConfigInvalid, match=r"shop/1 cannot be copied to .*root/shop: .*No space left"):
            publish(source, root)
    assert not (root / "shop").exists()
    assert publish(source, root) == root / "shop" / "1"
    with pytest.raises(ConfigInvalid, match=r"shop/9 does not exist: MODEL/NUMBER is expected"):
        publish(source.with_name("9"), root)
    (source / "/".join("d" * 900)).mkdir(parents=True)
    with pytest.raises(errors.FileChanged, match="folders lie too deep"):
        publish(source, root)


def _failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_examples_are_clear_and_of_different_lengths() -> None:
    """Of the short, the middling and the long third, the clearest."""
    assert clearest([1, 9, 2, 8, 5, 6], [0.1, 0.9, 0.2, 0.95, 0.3, 0.2]) == [2, 4, 3]


def test_an_exported_number_is_never_written_over(tmp_path: Path) -> None:
    """A version that is there stays what it is."""
    body, _ = CASES["mean over real steps"]
    export_version(draft_of(body()), tmp_path)
    with pytest.raises(VersionExists):
        export_version(draft_of(body()), tmp_path)


def test_only_faults_are_heard_of_tensorflow() -> None:
    """What it says at a process' first session, at any level of its log, is no line of ours."""
    code = (
        "from seqserve.models.cli.show import errors_shown, hear_greeting\n"
        "with errors_shown():\n    hear_greeting()\n    import tensorflow as tf\n"
        "with tf.Graph().as_default(), tf.compat.v1.Session() as session:\n"
        "    session.run(tf.constant(1.0) + tf.compat.v1.placeholder_with_default(1.0, []))\n"
        "    session.run(tf.compat.v1.placeholder(tf.float32, []))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.startswith("Traceback"), ran.stderr
    assert "InvalidArgumentError" in ran.stderr
