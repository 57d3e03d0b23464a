"""Train a plain Keras classifier, then serve it: all that seqserve needs besides is keras_classifier.toml.

    python examples/keras_classifier.py build/gestures.keras
    seqserve export build/gestures.keras --contract examples/keras_classifier.toml --out build/models

The data are generated: the acceleration of a hand that waves, circles or pushes, three numbers a step, 12 to
40 steps. The model is what one writes without seqserve in mind: padding of zeros, Masking, LSTM, softmax.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

GESTURES = ("wave", "circle", "push")


def gesture(kind: str, random: np.random.Generator) -> np.ndarray:
    """Return one gesture, (steps, 3) in m/s²."""
    steps = np.arange(random.integers(12, 41))
    phase = random.uniform(0.4, 0.7) * steps + random.uniform(0, 6)
    still = np.zeros_like(phase)
    table = {
        "wave": (np.sin(phase), still, still),
        "circle": (np.sin(phase), np.cos(phase), still),
        "push": (still, still, np.sin(phase)),
    }
    return 4 * np.stack(table[kind], axis=1) + random.normal(0, 0.8, (len(steps), 3))


def main() -> None:
    """Train on 600 gestures and save the model."""
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    targets = random.integers(0, len(GESTURES), 600)
    gestures = [gesture(GESTURES[target], random) / 3 for target in targets]  # as `scale` in the contract
    padded = keras.utils.pad_sequences(gestures, padding="post", dtype="float32")

    motion = keras.Input((None, 3), name="motion")
    state = layers.LSTM(16)(layers.Masking(0.0)(motion))
    model = keras.Model(motion, layers.Dense(len(GESTURES), activation="softmax", name="gesture")(state))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(padded, targets, epochs=8, verbose=0)

    path = Path(sys.argv[1] if len(sys.argv) > 1 else "gestures.keras")
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    print(f"{path}: accuracy {history.history['accuracy'][-1]:.3f} on the training data")


if __name__ == "__main__":
    main()
