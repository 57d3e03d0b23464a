"""What a model is to a contract, wherever it was read from: named inputs and outputs, and a function."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from seqserve.models.bring.keras_file import Port


class ModelFile(Protocol):
    """A model that somebody else trained."""

    @property
    def network(self) -> Any:
        """What holds its variables and tables, kept alive while the model is traced and saved."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Its inputs, in order."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Its outputs, in order."""

    def call(self, fed: Sequence[Any]) -> list[Any]:
        """Return the outputs, in order, for the inputs, in order; traceable."""

    def maybe_masks(self) -> bool:
        """Say whether any part of the model could take a step for padding by its value."""

    def masked_values(self) -> Mapping[str, float]:
        """Return the value that each layer masks, by the layer's name, where layers can be seen."""

    def pads(self) -> Sequence[float]:
        """Return values that may stand for "no step", the likeliest first; at least one."""

    def computes_in_halves(self) -> bool:
        """Say whether any part of the model computes with 16 bits."""
