"""What export finds out of a user's own model by trying it: before it ships, or to refuse it."""

from inspect import getsource
from pathlib import Path
from typing import Any

import pytest
from keras import layers

from models.check.repeat import AnswersVary
from tests.models.own import HEAD, NUMBERS, classifier, export

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, saving


class Counting(layers.Layer):
    """Counts its calls."""

    def build(self, shape: Any) -> None:
        """Begin at zero."""
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        """Return what came, and a bit more each time."""
        self.calls.assign_add(0.1)
        return x + self.calls


class Drawing(layers.Dropout):
    """Drops while serving too."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return what came, less what was drawn."""
        return super().call(x, training=True)


def own_file(folder: Path, *kinds: type) -> Path:
    """A file for --import, with the layers' sources."""
    file = folder / "own_layers.py"
    sources = (getsource(kind) for kind in kinds)
    file.write_text(
        "\n".join(["from typing import Any", "import keras", "from keras import layers", *sources])
    )
    return file


@pytest.mark.parametrize("layer", [Counting(), Drawing(0.5)], ids=["counts", "draws"])
def test_answers_that_vary_are_never_shipped(layer: layers.Layer, tmp_path: Path) -> None:
    """They look like a leak, but rows run alone vary too: --allow-leak does not let them through."""
    model = classifier(layers.Masking(0.0), layers.LSTM(4), type(layer).from_config(layer.get_config()))
    file = own_file(tmp_path, type(layer))
    with pytest.raises(AnswersVary, match=r"output 'label' of .* changes by .* asked again"):
        export(model, NUMBERS + HEAD, tmp_path, imports=[file], allow_leak=True)
    assert not (tmp_path / "models/own/1").exists()
