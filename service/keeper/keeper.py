"""The keeper: follows a model config file and the models, and writes the checked copy that is served.

A model server asks for a check before it starts (deploy/tfserving/start.sh): by a file `ID.ask` beside the
copy, which is removed once the copy is fresh.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from seqserve.service.keeper.checked import Fault, check, parsed
from seqserve.service.keeper.moves import Moves
from seqserve.service.keeper.readable import Reader
from seqserve.service.metrics import KeeperMetrics

log = logging.getLogger(__name__)
COPY, ASKS = "models.config", "*.ask"


class Report:
    """Logs each fault once when it begins and once when it has ended; while it lasts, its metric is 1."""

    def __init__(self, metrics: KeeperMetrics) -> None:
        self._metrics = metrics
        self._faults: dict[Fault, None] = {}

    def __call__(self, faults: Iterable[Fault]) -> None:
        """Take the faults that there are now."""
        now = dict.fromkeys(faults)
        for fault in (f for f in now if f not in self._faults):
            log.warning("%s", fault, extra={"fields": _labels(fault)})
            self._metrics.faults.labels(**_labels(fault)).set(1)
        for fault in (f for f in self._faults if f not in now):
            log.info("no longer so: %s", fault, extra={"fields": _labels(fault)})
            self._metrics.faults.remove_by_labels(_labels(fault))
        self._faults = now


def _labels(fault: Fault) -> dict[str, str]:
    return {"model": fault.model, "version": fault.version, "label": fault.label, "reason": fault.reason}


class Keeper:
    """Keeps OUT/models.config a checked copy of a model config file.

    Args:
        config: the original. While it is not valid, its last valid text stands, at first the copy's.
        out: the folder of the copy, shared with the model servers.
        root: where the models' folders lie here; absent: at their base_path.
        reader: judges the versions.
        moves: says when a label moves.
    """

    def __init__(
        self, config: Path, out: Path, root: Path | None, report: Report, reader: Reader, moves: Moves
    ) -> None:
        self._config = config
        self._copy = out / COPY
        self._root = root
        self._report = report
        self._reader = reader
        self._moves = moves
        self._valid = _valid(self._copy)
        self._held: Mapping[str, frozenset[int]] = {}
        self._found: tuple[Fault, ...] = ()  # by the last look that did not fail

    def look(self) -> None:
        """Check, write the copy where it differs, answer who asked, and report."""
        asks = sorted(self._copy.parent.glob(ASKS))
        faults = self._read()
        try:
            self._found = self._renew(starting=bool(asks))
            self._answer(asks)
        except Exception as error:  # whatever it is, the last copy stands, and the next look may do better
            failure = "the models cannot be looked at, or no copy written"
            faults.append(Fault("KEEPER_FAILED", f"{failure}: {type(error).__name__}: {error}"))
        self._report([*faults, *self._found])

    def _answer(self, asks: Iterable[Path]) -> None:
        on = "on a copy just checked" if self._valid is not None else "unchecked: no file was valid yet"
        for ask in asks:
            ask.unlink(missing_ok=True)
            log.info("a model server starts, %s", on, extra={"fields": {"ask": ask.stem}})

    def _read(self) -> list[Fault]:
        try:
            text = self._config.read_text()
            parsed(text)
        except (OSError, ValueError) as error:
            return [Fault("CONFIG_INVALID", f"{self._config} is not followed: {error}")]
        self._valid = text
        return []

    def _renew(self, starting: bool) -> tuple[Fault, ...]:
        if self._valid is None:
            return ()
        if starting:
            self._reader.release()
            self._moves.forget()
        checked = check(self._valid, self._reader, self._root, {} if starting else self._held)
        checked = self._moves.paced(checked)
        self._reader.forget_gone()
        data = checked.text.encode()
        if not self._copy.exists() or self._copy.read_bytes() != data:
            aside = self._copy.with_suffix(".new")
            aside.write_bytes(data)
            os.replace(aside, self._copy)  # a server that reads meanwhile reads one or the other, whole
            served = {model: sorted(numbers) for model, numbers in checked.versions.items()}
            log.info("%s is written", self._copy, extra={"fields": {"versions": served}})
        self._held = checked.versions
        return checked.faults


def _valid(copy: Path) -> str | None:
    """Return the text of a copy that was left; none where there is none, or it names no model."""
    try:
        text = copy.read_text()
        parsed(text)
    except (OSError, ValueError):
        return None
    return text
