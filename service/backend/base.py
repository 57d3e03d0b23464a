"""The seam below the scheduler: tensors by name, absolute deadlines, versions pinned.

`embedded` runs SavedModels in this process, `tfserving` calls a model server; the tests have a callable fake.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from seqserve.service.contract.padding import Array
from seqserve.service.errors import SeqserveError

Tensors = Mapping[str, Array]


class State(StrEnum):
    """How a version stands at a backend."""

    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version at the backend. A new `stamp` under the same number means other content.

    `has_ended`: the backend could not load it and does not try again; it may list it for ever.
    """

    version: int
    state: State
    error: SeqserveError | None = None
    stamp: Hashable = None
    has_ended: bool = False


@dataclass(frozen=True, slots=True)
class Spec:
    """What is called: a signature of one pinned version.

    `digest` is of the manifest that encoded the rows: other content under the same number is not called.
    """

    model: str
    version: int
    signature: str
    digest: str


class Backend(Protocol):
    """What turns tensors into tensors. Every error it raises is of `service.errors`."""

    @property
    def slots(self) -> int:
        """How many batches it can use at once."""

    @property
    def is_reachable(self) -> bool:
        """Whether anything could run a batch now."""

    @property
    def has_named_models(self) -> bool:
        """Whether somebody named the models; else they are those that it finds."""

    async def models(self) -> list[str]:
        """Return the names of the models that it is to serve.

        Raises:
            BackendUnavailable: where they lie cannot be looked at now; those that were there may be yet.
        """

    async def versions(self, model: str) -> list[VersionState]:
        """Return the versions of a model; none where the model is unknown.

        Raises:
            BackendUnavailable: they cannot be looked at now; those that could be called may be called still.
        """

    async def label(self, model: str, label: str) -> int:
        """Return the version that a label stands for.

        Raises:
            LabelNotFound: the model has no such label.
            VersionNotFound: the version that it points to is not there.
            BackendUnavailable: no model server can be asked now.
        """

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        """Return the contract files of a version by path relative to assets/, manifest.json among them.

        Raises:
            ManifestMissing: the version has no signature `manifest`.
            BackendBatchingOn: the model server batches by itself.
            VersionNotFound: the version is not there, or is gone.
        """

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        """Run one batch.

        Args:
            inputs: by name, as the signature declares them.
            deadline: absolute, on the event loop's clock; the run is stopped then.

        Raises:
            VersionNotFound: the version is not there, is gone, or has another digest.
            BackendFailed: the model failed on these inputs.
            BackendUnavailable, DeadlineExceeded: as named.
        """

    async def close(self) -> None:
        """Release everything that is held."""
