"""A model as JSON: versions and their standing, and what the current one takes and gives."""

from typing import Any

from seqserve.service.contract.describe import as_json, describe
from seqserve.service.core.gateway import ModelReport
from seqserve.service.core.standing import VersionReport
from seqserve.service.errors import OK
from seqserve.service.surfaces import tfserving


def model_as_json(report: ModelReport) -> dict[str, Any]:
    """Return what `GET /v1/models/{model}` answers."""
    current = report.current
    return {
        "name": report.name,
        "task": current.manifest.task if current else None,
        "current": current.version if current else None,
        "versions": [_version(version) for version in report.versions],
        **(as_json(describe(current.manifest)) if current else {}),
    }


def states_as_json(report: ModelReport, number: int | None = None) -> dict[str, Any]:
    """Return a model's versions, or one of them, as TensorFlow Serving tells their states."""
    return {
        "model_version_status": [
            {
                "version": str(version.version),
                "state": tfserving.STATES[version.standing],
                "status": {
                    "error_code": version.error.code.value if version.error else OK,
                    "error_message": version.error.message if version.error else "",
                },
            }
            for version in tfserving.versions(report, number)
        ]
    }


def _version(report: VersionReport) -> dict[str, Any]:
    shown: dict[str, Any] = {"version": report.version, "standing": report.standing.value}
    if report.served is not None:
        shown["digest"] = report.served.digest
        if report.served.exported_name is not None:
            shown["exported_name"] = report.served.exported_name
    if report.error is not None:
        shown |= {"reason": report.error.reason, "message": report.error.message}
    return shown
