"""A model as `ModelService` shows it: what REST shows, as a message."""

from dataclasses import asdict

from seqserve.service.contract.describe import describe
from seqserve.service.core.gateway import ModelReport
from seqserve.service.core.standing import Standing, VersionReport
from seqserve.v1 import model_pb2

STANDINGS = {
    Standing.LOADING: model_pb2.STANDING_LOADING,
    Standing.ROUTABLE: model_pb2.STANDING_ROUTABLE,
    Standing.REFUSED: model_pb2.STANDING_REFUSED,
}


def model(report: ModelReport) -> model_pb2.Model:
    """Return a model's versions, and what its current one takes and answers."""
    shown = model_pb2.Model(name=report.name, versions=map(_version, report.versions))
    if report.current is None:
        return shown
    manifest = report.current.manifest
    described = describe(manifest)
    shown.task, shown.current = manifest.task, report.current.version
    for name, feature in described.features.items():
        shown.features[name].CopyFrom(model_pb2.FeatureDescription(**asdict(feature)))
    for name, head in described.heads.items():
        shown.heads[name].CopyFrom(model_pb2.HeadDescription(**asdict(head)))
    shown.limits.CopyFrom(model_pb2.Limits(**described.limits))
    return shown


def _version(report: VersionReport) -> model_pb2.VersionStatus:
    shown = model_pb2.VersionStatus(version=report.version, standing=STANDINGS[report.standing])
    if report.served is not None:
        shown.digest = report.served.digest
        if report.served.exported_name is not None:
            shown.exported_name = report.served.exported_name
    if report.error is not None:
        shown.reason, shown.message = report.error.reason, report.error.message
    return shown
