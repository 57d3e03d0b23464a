"""A translator after Keras' example "Character-level recurrent sequence-to-sequence model" (lstm_seq2seq).

    python examples/translators/characters.py --out build/characters

writes s2s_model.keras, the model as it was trained; source_characters.json and target_characters.json, the
index of each character; and expected.jsonl. Nothing here knows of seqserve but the phrases; characters.toml
is what serving it takes.

One-hot characters, an LSTM that reads, an LSTM that writes from its states. As in the example nothing is
masked: a source is padded with SPACES to the longest one of training. A translation begins with a tab and
ends with a line feed. https://keras.io/examples/nlp/lstm_seq2seq
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers
from phrases import (
    HELD_OUT,
    SEED,
    Phrase,
    Translation,
    read_options,
    read_phrases,
    share_right,
    write_expected,
)

LATENT = 96
BATCH = 32
LONGEST = 13
"""Characters that a date may have: without attention, longer ones take minutes to learn."""
START, END = "\t", "\n"


def index_characters(texts: Iterable[str]) -> dict[str, int]:
    """Return the index of every character of the texts."""
    return {character: index for index, character in enumerate(sorted(set("".join(texts))))}


def one_hot(texts: Sequence[str], longest: int, index: dict[str, int]) -> np.ndarray:
    """Return (texts, longest, characters), padded with spaces.

    Raises:
        KeyError: a character that was not in training.
    """
    ids = [[index[character] for character in text.ljust(longest)] for text in texts]
    return np.eye(len(index), dtype="float32")[np.array(ids)]


def build(source_characters: int, target_characters: int) -> keras.Model:
    """Return the model for training: (source, target so far) to the next characters' probabilities."""
    encoder_inputs = keras.Input((None, source_characters))
    _, state_h, state_c = layers.LSTM(LATENT, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input((None, target_characters))
    decoder_lstm = layers.LSTM(LATENT, return_sequences=True, return_state=True)
    decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[state_h, state_c])
    decoder_outputs = layers.Dense(target_characters, activation="softmax")(decoder_outputs)
    return keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)


def train(model: keras.Model, source: np.ndarray, target: np.ndarray, epochs: int) -> None:
    """Fit the model, always given the right characters so far."""
    steps = epochs * -(-len(source) // BATCH)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps))
    model.compile(optimizer, "categorical_crossentropy")
    model.fit([source, target[:, :-1]], target[:, 1:], batch_size=BATCH, epochs=epochs, verbose=0)


class Sampler:
    """The example's way to translate: two models made of the layers of the saved one."""

    def __init__(
        self, model: keras.Model, indices: tuple[dict[str, int], dict[str, int]], lengths: tuple[int, int]
    ) -> None:
        """Take the model, the indices of source and target characters, the longest source and target."""
        self._source_index, self._target_index = indices
        self._longest_source, self._longest_target = lengths
        self._characters = "".join(self._target_index)
        self._encoder = keras.Model(model.input[0], model.layers[2].output[1:])
        states = [keras.Input((LATENT,), name=f"state_{n}") for n in "hc"]  # none that the model has already
        outputs, *after = model.layers[3](model.input[1], initial_state=states)
        self._decoder = keras.Model([model.input[1], *states], [model.layers[4](outputs), *after])

    def decode(self, texts: Sequence[str]) -> list[Translation]:
        """Translate character by character, each time by the likeliest."""
        rows = one_hot(texts, self._longest_source, self._source_index)
        states = self._encoder.predict(rows, verbose=0)
        character = np.full(len(texts), self._target_index[START])
        ids, scores = [], []
        for _ in range(self._longest_target):
            taken = np.eye(len(self._target_index), dtype="float32")[character][:, None]
            outputs, *states = self._decoder.predict([taken, *states], verbose=0)
            probabilities = outputs[:, -1]  # (texts, characters)
            character = probabilities.argmax(axis=-1)
            ids.append(character)
            scores.append(np.log(probabilities[np.arange(len(texts)), character]))
        rows = zip(np.stack(ids, axis=1), np.stack(scores, axis=1), strict=True)
        return [self._translation(*row) for row in rows]

    def _translation(self, ids: np.ndarray, scores: np.ndarray) -> Translation:
        ends = np.flatnonzero(ids == self._target_index[END])
        length = int(ends[0]) + 1 if len(ends) else len(ids)
        text = "".join(self._characters[index] for index in ids[:length].tolist())
        return Translation(text.removesuffix(END), ids[:length].tolist(), scores[:length].tolist())


def save(folder: Path, model: keras.Model, *indices: dict[str, int]) -> None:
    """Write the model and the indices of source and target characters."""
    model.save(folder / "s2s_model.keras")
    for name, index in zip(("source_characters.json", "target_characters.json"), indices, strict=True):
        (folder / name).write_text(json.dumps(index, ensure_ascii=False), "utf-8")


def marked(phrases: Sequence[Phrase]) -> list[str]:
    """Return the translations between their start and end."""
    return [START + phrase.target + END for phrase in phrases]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, translate what was held out and say how much of it is right."""
    options = read_options(__doc__, arguments, out="build/characters", pairs=2500, epochs=16)
    keras.utils.set_random_seed(SEED)
    phrases = read_phrases("train", options.pairs, LONGEST)
    held_out = read_phrases("validation", HELD_OUT, LONGEST)
    sources, targets = [phrase.source for phrase in phrases], marked(phrases)
    indices = index_characters(sources), index_characters(targets)
    lengths = max(map(len, sources)), max(map(len, targets))
    model = build(*map(len, indices))
    rows = (one_hot(*given) for given in zip((sources, targets), lengths, indices, strict=True))
    train(model, *rows, options.epochs)
    save(options.out, model, *indices)
    texts = [phrase.source for phrase in held_out]
    sampler = Sampler(keras.saving.load_model(options.out / "s2s_model.keras"), indices, lengths)
    translations = [one.text for one in sampler.decode(texts)]
    write_expected(options.out, texts, translations)
    right = share_right(translations, [phrase.target for phrase in held_out])
    print(f"{options.out}: {right:.1%} of {len(texts)} phrases it has not seen are right")


if __name__ == "__main__":
    main()
