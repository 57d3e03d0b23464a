"""How a version is examined before it is called: by the contract that it carries, and its golden examples."""

import asyncio
import logging

from seqserve.service import errors
from seqserve.service.backend.base import Backend, State, VersionState
from seqserve.service.contract.bounds import FILE_BYTES
from seqserve.service.contract.digest import digest_of, sha256
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.core.golden import TRANSIENT, run_examples
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.standing import Standing, VersionReport
from seqserve.service.core.tasks import TASKS, Tasks, task_named
from seqserve.service.core.types import Served
from seqserve.service.errors import SeqserveError

log = logging.getLogger(__name__)
EXAMPLES_SECONDS = 60.0


class Examiner:
    """Examines versions at a backend.

    Args:
        device: what the models run on, `cpu` or `gpu`: whose tolerance the golden examples are held to.
        tasks: those that are served; a version for another one is refused.
    """

    def __init__(
        self, backend: Backend, runner: ItemRunner, device: str = "cpu", tasks: Tasks = TASKS
    ) -> None:
        self._backend = backend
        self._runner = runner
        self._device = device
        self._tasks = tasks

    async def examine(self, name: str, state: VersionState) -> VersionReport:
        """Return how a version stands: routable, refused with the reason, or loading until more is known."""
        number = state.version
        try:
            if state.error is not None:
                raise state.error
            if state.state is State.AVAILABLE:
                return VersionReport(number, Standing.ROUTABLE, await self._admitted(name, number))
        except TRANSIENT as error:
            log.warning("%s version %d cannot be examined yet: %s", name, number, error.message)
        except SeqserveError as error:
            return VersionReport(number, Standing.REFUSED, error=error)
        except Exception:
            log.exception("examining %s version %d failed unexpectedly", name, number)
            fault = errors.Unexpected("examining it failed unexpectedly; the log has it")
            return VersionReport(number, Standing.REFUSED, error=fault)
        return VersionReport(number, Standing.LOADING)

    async def _admitted(self, name: str, number: int) -> Served:
        """Fetch the contract from the version itself and run its golden examples."""
        served = make_served(name, number, await self._backend.manifest(name, number), self._tasks)
        deadline = asyncio.get_running_loop().time() + EXAMPLES_SECONDS
        await run_examples(served, self._runner, deadline, self._device)
        return served


def make_served(name: str, number: int, files: dict[str, bytes], tasks: Tasks = TASKS) -> Served:
    """Build what can be called from a version's contract files, by path relative to assets/.

    Raises:
        ManifestMissing; ManifestInvalid, also where its task is not among `tasks` or a file is too large;
        FileChanged, naming a contract file that is not as exported.
    """
    if FILE_NAME not in files:
        raise errors.ManifestMissing(f"{name} version {number} carries no {FILE_NAME}")
    manifest = parse_manifest(files[FILE_NAME])
    for path, content in files.items():
        if path != FILE_NAME and len(content) > FILE_BYTES:
            message = f"assets/{path}: {len(content)} bytes are above the limit of {FILE_BYTES}"
            raise errors.ManifestInvalid(message)
    for path, content in files.items():
        listed = manifest.files.get(f"assets/{path}")
        if path != FILE_NAME and listed is not None and listed != sha256(content):
            raise errors.FileChanged(f"assets/{path} is not the file that was exported")
    task = task_named(manifest.task, tasks)
    return Served(name, number, digest_of(files[FILE_NAME]), manifest, task, task.codec(manifest, files))
