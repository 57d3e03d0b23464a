"""Write a version: graph, contract files, goldens, warm-up records, hashes; certified, then renamed whole.

The manifest comes last, because it lists the hash of everything else; the folder appears under its number
only when it is complete.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from seqserve.models.check import check_version
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.check.pipeline import Pipeline, name_and_version, pipeline
from seqserve.models.config import ConfigInvalid, in_short
from seqserve.models.draft import Draft, tensor_spec
from seqserve.service import errors
from seqserve.service.contract.digest import check_digests, file_hashes, version_files
from seqserve.service.contract.manifest import FILE_NAME, MANIFEST_SIGNATURE, Example, Manifest
from seqserve.service.contract.manifest_file import dump_manifest
from seqserve.service.contract.padding import pad_batch
from seqserve.service.core.golden import answers, body_of
from seqserve.service.core.types import Served

WARMUP = Path("assets.extra/tf_serving_warmup_requests")
SECONDS = 120.0
Measure = Callable[[Pipeline], Awaitable[dict[str, Any]]]
"""What the model card says of a version's quality, measured by the pipeline that will serve it."""


async def no_measure(_: Pipeline) -> dict[str, Any]:
    """Measure nothing."""
    return {}


def export_version(
    draft: Draft,
    root: Path,
    measure: Measure = no_measure,
    allow_leak: bool = False,
    report: Callable[[str], object] = lambda line: None,
) -> Path:
    """Write ROOT/NAME/VERSION and return it.

    Args:
        measure: its result is kept as the card's `metrics`.
        allow_leak: ship a model whose outputs depend on padding, with `batching: single`; its card says so.
        report: takes each line of the certification.

    Raises:
        VersionExists: the number is taken.
        ConfigInvalid: the root cannot be written.
        AnswersVary, GraphDiffers, PaddingLeak, GoldenFailed, DeviceOnlyOp, ManifestInvalid: the
            certification refuses it.
    """
    manifest = draft.manifest
    target = root / manifest.name / str(manifest.version)
    if target.exists():
        raise VersionExists(f"{target} exists already")
    with _aside(target, ".export-") as aside:
        staged = aside / manifest.name / target.name
        _save_graph(draft, staged)
        try:
            lines = _finish(draft, manifest, staged, measure)
        except PaddingLeak as leak:
            if not allow_leak:
                raise
            if len(manifest.buckets) == 1:
                length = manifest.buckets[0]
                reason = f"{leak.message}; every row is padded to {length} steps, so none can run unpadded"
                raise PaddingLeak(reason) from leak
            card = {**(manifest.card or {}), "padding_leak": leak.message}
            single = manifest.model_copy(update={"batching": "single", "card": card})
            lines = _finish(draft, single, staged, measure)
        for line in lines:
            report(line)
        staged.rename(target)
    return target


class VersionExists(errors.FailedPrecondition):
    """A version is never written over."""

    reason = "VERSION_EXISTS"


def next_version(root: Path, name: str) -> int:
    """Return the number after the highest one taken."""
    taken = [int(p.name) for p in (root / name).glob("*") if p.name.isdecimal()]
    return max(taken, default=0) + 1


def publish(source: Path, root: Path, version: int | None = None) -> Path:
    """Copy a version's bytes to ROOT/NAME under the next free number (or `version`), whole or not at all.

    Raises:
        FileChanged, ManifestMissing: the source is not as exported.
        VersionExists: the number is taken.
        ConfigInvalid: the root cannot be written, or there is no room in it.
    """
    source, name, _ = name_and_version(source)
    target = root / name / str(version or next_version(root, name))
    if target.exists():
        raise VersionExists(f"{target} exists already")
    with _aside(target, ".publish-") as aside:
        copy = aside / target.name
        try:
            for _ in version_files(source):  # refuses what lies too deep to be copied
                pass
            shutil.copytree(source, copy)
        except OSError as error:
            first = error.args[0][0][-1] if isinstance(error, shutil.Error) else error.strerror
            raise ConfigInvalid(f"{source} cannot be copied to {target.parent}: {first}") from error
        check_digests(copy)
        copy.rename(target)
    return target


@contextmanager
def _aside(target: Path, prefix: str) -> Iterator[Path]:
    """Make a folder beside the target, so that the last step is a rename within one file system.

    Raises:
        ConfigInvalid: the root cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent)
    except OSError as error:
        advice = "give a root that this user may write to"
        raise ConfigInvalid(f"{target.parent} cannot be written: {error.strerror}; {advice}") from error
    try:
        with aside as path:
            yield Path(path)
    finally:
        with suppress(OSError):  # an empty folder would be a model without versions
            target.parent.rmdir()


class _Module(tf.Module):
    """What is saved: the network, its variables as TF Serving's loader finds them, and the contract files."""

    def __init__(self, draft: Draft, files: Mapping[str, Path]) -> None:
        super().__init__()
        self.network = draft.network
        self.values: list[tf.Variable] = []
        self.files = [tf.saved_model.Asset(str(path)) for path in files.values()]
        self._names = list(files)

    def keep(self, traced: Iterable[Any]) -> None:
        """Hold the variables of traced functions: the C++ loader does not find those that only Keras tracks.

        Those of a Keras model are in its order, then the others by name: graphs list them in none.
        Source: keras#20095, serving#2250.
        """
        own = getattr(self.network, "variables", ())
        kept = {id(value): value for value in (getattr(variable, "value", variable) for variable in own)}
        read = {id(variable): variable for function in traced for variable in function.graph.variables}
        others = [variable for place, variable in read.items() if place not in kept]
        self.values = [*kept.values(), *sorted(others, key=lambda variable: variable.name)]

    def manifest(self) -> dict[str, tf.Tensor]:
        """Return the contract files' names and bytes, read where the version lies."""
        contents = [tf.io.read_file(asset.asset_path) for asset in self.files]
        return {"names": tf.constant(self._names), "contents": tf.stack(contents)}


def _save_graph(draft: Draft, folder: Path) -> None:
    """Save the graph with a placeholder for the manifest, which is written last."""
    with tempfile.TemporaryDirectory() as aside:
        files = {FILE_NAME: b"{}", **draft.files}
        paths = {name: Path(aside) / name for name in files}
        for name, path in paths.items():
            path.write_bytes(files[name])
        module = _Module(draft, paths)
        signatures = {MANIFEST_SIGNATURE: tf.function(module.manifest).get_concrete_function()}
        signatures |= {name: _traced(draft, name) for name in draft.functions}
        module.keep(signatures.values())
        tf.saved_model.save(module, str(folder), signatures=signatures)


def _traced(draft: Draft, name: str) -> Any:
    """Return a signature's function, traced with all axes open that its manifest does not fix."""
    signature = draft.manifest.signatures[name]
    specs = {key: tensor_spec(key, signature, draft.manifest) for key in signature.inputs}
    try:
        return tf.function(draft.functions[name]).get_concrete_function(**specs)
    except Exception as error:  # whatever a layer's own code raises
        if name not in draft.eager:
            raise
        reason = in_short(error, 400)
        raise ConfigInvalid(
            f"{draft.manifest.name}: the model cannot be traced with an open batch (and time axis), though "
            f"it can be called: {type(error).__name__}: {reason}"
        ) from error


def _finish(draft: Draft, manifest: Manifest, staged: Path, measure: Measure) -> list[str]:
    """Record the goldens with a draft of the manifest, write the final one, and certify the version."""
    path = staged / "assets" / FILE_NAME
    path.write_bytes(dump_manifest(manifest))
    path.write_bytes(dump_manifest(asyncio.run(_record(draft, manifest, staged, measure))))
    return check_version(staged, probes=draft.probes, eager=draft.eager)


async def _record(draft: Draft, manifest: Manifest, staged: Path, measure: Measure) -> Manifest:
    """Answer the golden requests with the staged version; return the manifest with goldens and hashes."""
    async with pipeline(staged, check_files=False) as loaded:
        deadline = asyncio.get_running_loop().time() + SECONDS
        examples = []
        for request in draft.requests:
            items = await answers(loaded.served, loaded.runner, request, deadline)
            examples.append(Example(request=request, items=items))
        _write_warmup(staged, loaded.served, draft)
        card = {**(manifest.card or {}), "metrics": await measure(loaded)}
    update = {"examples": tuple(examples), "card": card, "files": file_hashes(staged)}
    return Manifest.model_validate({**dict(manifest), **update})


def _write_warmup(staged: Path, served: Served, draft: Draft) -> None:
    """Write a PredictionLog for each golden row and bucket: TF Serving replays them when it loads.

    A model that takes rows alone gets them at their own length. A request whose options are its whole batch's
    has no record: such an input has no rows, and TF Serving that batches would not load the version.
    """
    alone = served.manifest.batching == "single"
    path = staged / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in draft.requests:
            plan = served.codec.plan(body_of(served, request))
            if plan.batch_options:
                continue
            signature = served.manifest.signatures[plan.signature]
            for row in (plan.encode(item).row for item in plan.items):
                buckets = [b for b in served.manifest.buckets if b >= row.length]
                for length in [row.length] if alone else buckets or [row.length]:
                    inputs = pad_batch([row], length, signature, served.manifest, plan.batch_options)
                    writer.write(_prediction_log(served, plan.signature, inputs).SerializeToString())


def _prediction_log(served: Served, signature: str, inputs: Mapping[str, Any]) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = served.manifest.name
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=log)
