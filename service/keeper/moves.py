"""When a label moves: not before the version that it moves to has been served for a while.

TensorFlow Serving refuses a file whole that moves a label to a version which is not loaded (server_core.cc,
UpdateModelVersionLabelMap). A version that only the same file brings, because its policy is `specific`, would
then never be loaded, and no edit of that file be taken.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from google.protobuf import text_format

from seqserve.service.keeper.checked import HEADER, Checked, Fault
from seqserve.tfserving.config_pb2 import ModelConfig, ModelServerConfig


class Moves:
    """Owner of what the copies so far have given to a running server: labels, and since when versions.

    Args:
        hold: seconds for which a label stays where it is; more than a server takes to see a copy and load.
        clock: seconds, never going back.
    """

    def __init__(self, hold: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._hold = hold
        self._clock = clock
        self._labels: dict[tuple[str, str], int] = {}
        self._since: dict[tuple[str, int], float] | None = None

    def forget(self) -> None:
        """Begin anew: to a server that starts, all labels are new, and it loads every version first."""
        self._labels, self._since = {}, None

    def paced(self, checked: Checked) -> Checked:
        """Return what is to be served now: the labels that have to wait, and their versions, as before."""
        now = self._clock()
        served = [(name, number) for name, numbers in checked.versions.items() for number in numbers]
        since = dict.fromkeys(served, -math.inf) if self._since is None else self._since
        self._since = {key: since.get(key, now) for key in served}
        copy = text_format.Parse(checked.text, ModelServerConfig(), allow_unknown_field=True)
        models = copy.model_config_list.config
        fresh = {key for key, begun in self._since.items() if now - begun < self._hold}
        waiting = [fault for model in models for fault in self._kept_back(model, fresh)]
        self._labels = {(m.name, label): n for m in models for label, n in m.version_labels.items()}
        if not waiting:
            return checked
        return replace(
            checked, text=HEADER + text_format.MessageToString(copy), faults=(*checked.faults, *waiting)
        )

    def _kept_back(self, model: ModelConfig, fresh: Collection[tuple[str, int]]) -> list[Fault]:
        """Put labels back to where they are; return a fault for each."""
        specific, faults = model.model_version_policy.specific, []
        for label, number in sorted(model.version_labels.items()):
            before = self._labels.get((model.name, label), number)
            is_new = number in specific.versions and (model.name, number) in fresh
            if before == number or not is_new:
                continue
            model.version_labels[label] = before
            if before not in specific.versions:
                specific.versions.append(before)
            why = f"{model.name}: label {label!r} stays at version {before} until {number} is surely loaded"
            faults.append(Fault("LABEL_WAITS", why, model.name, str(number), label))
        return faults
