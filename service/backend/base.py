"""The seam below the scheduler: five methods, tensors by name, absolute deadlines.

Implemented by `embedded` (in-process SavedModels) and by the tests' callable fake.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from service.contract.padding import Array
from service.errors import SeqserveError

Tensors = Mapping[str, Array]


class State(StrEnum):
    """What a backend says of a version it has."""

    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version at the backend. A new `stamp` under the same number means another content."""

    version: int
    state: State
    error: SeqserveError | None = None
    stamp: Hashable = None


@dataclass(frozen=True, slots=True)
class Spec:
    """What is called: a signature of one pinned version."""

    model: str
    version: int
    signature: str


class Backend(Protocol):
    """What turns tensors into tensors. Every error it raises is of `service.errors`."""

    async def models(self) -> list[str]:
        """Return the names of the models that it is to serve."""

    async def versions(self, model: str) -> list[VersionState]:
        """Return what there is of a model; none where it is unknown."""

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        """Return the contract files of a version by path relative to assets/, manifest.json among them.

        Raises:
            ManifestMissing: the version has no signature `manifest`.
            VersionNotFound: the version is not there, or no longer.
        """

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        """Run one batch.

        Args:
            inputs: by name, as the signature declares them.
            deadline: absolute, on the event loop's clock; the run is stopped then.

        Raises:
            VersionNotFound: the version is not there, or no longer.
            BackendFailed: the model failed on these inputs.
            BackendUnavailable, DeadlineExceeded: as named.
        """

    async def close(self) -> None:
        """Let go of everything held."""
