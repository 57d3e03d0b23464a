"""Reasons why a version is refused, at both doors."""

from seqserve.service.errors.base import FailedPrecondition


class BackendBatchingOn(FailedPrecondition):
    """The model server batches by itself; the gateway batches, so that must be off."""

    reason = "BACKEND_BATCHING_ON"


class GoldenFailed(FailedPrecondition):
    """The version does not give the answers that were recorded when it was exported."""

    reason = "GOLDEN_FAILED"


class ManifestMissing(FailedPrecondition):
    """The version carries no manifest."""

    reason = "MANIFEST_MISSING"


class ManifestInvalid(FailedPrecondition):
    """The version's manifest breaks the contract; the message names the field."""

    reason = "MANIFEST_INVALID"


class FileChanged(FailedPrecondition):
    """A file of the version is not the one that was exported; the message names it."""

    reason = "FILE_CHANGED"


class UnsafeOp(FailedPrecondition):
    """The version's graph would reach for more than its own files; the message names node and operation."""

    reason = "UNSAFE_OP"


class TaskDiffers(FailedPrecondition):
    """The version is for another task than the one that answers under its name; the message names both."""

    reason = "TASK_DIFFERS"
