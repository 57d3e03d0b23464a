"""The labels that callers use: which version each stands for, asked of the backend again and again.

A label that points to a version that is not there is asked about more and more rarely, whoever wants it,
because TensorFlow Serving counts each such question as a failed request.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from seqserve.service import errors
from seqserve.service.backend.base import Backend
from seqserve.service.errors import SeqserveError

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0
"""Seconds between two questions about a label that points nowhere: doubled each time, up to the second."""
ASTRAY = (errors.VersionNotFound, errors.FailedPrecondition)
"""Errors about the version that a label points to. After any other, what was known of the label stands."""
Key = tuple[str, str]
"""A model's name and a label."""


@dataclass(frozen=True, slots=True)
class _Astray:
    """Why a label stands for no version, and when the backend is asked again, on the loop's clock."""

    error: SeqserveError
    pause: float
    due: float


class Labels:
    """Owner of what is known of labels in use; those that the backend does not know are not remembered."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._versions: dict[Key, int] = {}
        self._astray: dict[Key, _Astray] = {}
        self._unanswered: set[Key] = set()  # those whose last question failed, while their version stands
        self._turn = asyncio.Lock()  # invented labels reach the backend one at a time

    async def version(self, model: str, label: str) -> int:
        """Return the version that a label stands for, as the backend said last or says now.

        Raises:
            LabelNotFound: the model has no such label, or it points to a version that is not there.
            SeqserveError: whatever else the backend says.
        """
        key = (model, label)
        if key not in self._versions and self._is_due(key):
            async with self._turn:
                if key not in self._versions and self._is_due(key):
                    return await self._ask(key)
        if key in self._astray:
            raise self._astray[key].error.at()
        return self._versions[key]

    async def renew(self, model: str) -> None:
        """Ask again about a model's labels in use; what fails is logged once."""
        for key in [key for key in (*self._versions, *self._astray) if key[0] == model]:
            if self._is_due(key):
                with suppress(SeqserveError):
                    await self._ask(key)

    def drop(self, model: str) -> None:
        """Forget a model's labels."""
        for key in [key for key in (*self._versions, *self._astray) if key[0] == model]:
            self._forget(key)

    def _is_due(self, key: Key) -> bool:
        astray = self._astray.get(key)
        return astray is None or asyncio.get_running_loop().time() >= astray.due

    async def _ask(self, key: Key) -> int:
        try:
            version = await self._backend.label(*key)
        except errors.LabelNotFound:
            if key in self._astray:
                log.warning("label %s of model %s has been taken away", key[1], key[0])
            self._forget(key)
            raise
        except ASTRAY as error:
            raise self._stray(key, error) from error
        except SeqserveError as error:
            self._keep(key, error)
            raise
        if key in self._astray:
            log.warning("label %s of model %s stands for version %d again", key[1], key[0], version)
        self._forget(key)
        self._versions[key] = version
        return version

    def _keep(self, key: Key, error: SeqserveError) -> None:
        if key in self._versions and key not in self._unanswered:
            self._unanswered.add(key)
            log.warning("label %s of model %s cannot be looked up: %s", key[1], key[0], error.message)

    def _stray(self, key: Key, error: SeqserveError) -> SeqserveError:
        """Remember that a label stands for no version, and return what callers are told."""
        known = self._astray.get(key)
        pause = FIRST_PAUSE if known is None else min(LONGEST_PAUSE, 2 * known.pause)
        if known is None:
            log.warning("label %s of model %s stands for no version: %s", key[1], key[0], error.message)
        self._forget(key)
        said = errors.LabelNotFound(error.message) if isinstance(error, errors.VersionNotFound) else error
        self._astray[key] = _Astray(said, pause, asyncio.get_running_loop().time() + pause)
        return said.at()

    def _forget(self, key: Key) -> None:
        self._versions.pop(key, None)
        self._astray.pop(key, None)
        self._unanswered.discard(key)
