"""What both doors say in TensorFlow Serving's words: signatures and the states of versions."""

from collections.abc import Sequence

from seqserve.service import errors
from seqserve.service.contract.manifest import PREDICT_SIGNATURE
from seqserve.service.core.gateway import ModelReport
from seqserve.service.core.standing import Standing, VersionReport
from seqserve.service.surfaces.tensors import Kind

STATES = {Standing.LOADING: "LOADING", Standing.ROUTABLE: "AVAILABLE", Standing.REFUSED: "END"}
"""TensorFlow Serving's names, by ours; a version that is refused has ended with an error."""
DTYPES = {Kind.TEXT: "DT_STRING", Kind.NUMBER: "DT_DOUBLE", Kind.TRUTH: "DT_BOOL"}
METHOD = "tensorflow/serving/predict"
SIGNATURE_DEF = "signature_def"
"""The only field of a model's metadata."""


def check_signature(name: str) -> None:
    """Raise OptionOutOfRange unless a signature is the one that every model has here."""
    if name not in ("", PREDICT_SIGNATURE):
        message = f"signature_name is {name[:60]!r}; a model is called by {PREDICT_SIGNATURE} here"
        raise errors.OptionOutOfRange(message, path=("signature_name",))


def refused(verb: str) -> errors.Unsupported:
    """Return why a model is not asked so: there are no examples to parse in its graph."""
    return errors.Unsupported(f"{verb} takes tf.Examples, which no model here does; ask Predict instead")


def versions(report: ModelReport, number: int | None = None) -> Sequence[VersionReport]:
    """Return a model's versions, or one of them; raises VersionNotFound."""
    found = [version for version in report.versions if number in (None, version.version)]
    if not found and number is not None:
        raise errors.VersionNotFound(f"model {report.name!r} has no version {number}")
    return found
