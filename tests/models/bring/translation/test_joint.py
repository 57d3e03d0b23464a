"""A model as it was trained, cut in two: each step gives what the whole gives for all that is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.joint import cut
from seqserve.models.bring.translation.steps import Steps
from seqserve.models.config import ConfigInvalid

PIECES, ENTRIES, UNITS = 11, 9, 6
SOURCE, WRITTEN = [[3, 4, 5, 6]], [2, 7, 5, 8]
Build = Callable[[Any, Any], Any]


def contract(**more: Any) -> TranslationContract:
    """Return a contract whose vocabularies are not read here."""
    words = {"kind": "word_index", "file": "words.json"}
    return TranslationContract.model_validate(
        {"name": "own", "task": "translation", "source": words, "target": words, **more}
    )


def model(
    build: Build, source: int | None = None, target: int | None = None, swap: bool = False
) -> keras.Model:
    """Return a model of (source, target), or the other way round, with weights far from zero."""
    keras.utils.set_random_seed(5)
    inputs = [keras.Input((source,), name="x"), keras.Input((target,), name="y")]
    whole = keras.Model(inputs[::-1] if swap else inputs, build(*inputs))
    whole.set_weights([weight * 3 for weight in whole.get_weights()])
    return whole


def steps_of(whole: keras.Model, **more: Any) -> Steps:
    """Cut it."""
    return cut(Path("own.keras"), whole, contract(**more), PIECES)


def assert_same(whole: keras.Model, swap: bool = False, scores: int = 0) -> Steps:
    """Compare each step with the whole model, given what is written up to there."""
    steps = steps_of(whole)
    source = tf.constant(SOURCE)
    state, memory = steps.encode(source)
    longest = whole.inputs[1 - swap].shape[1]
    for place, word in enumerate(WRITTEN):
        got, state, _ = steps.advance(tf.constant([word]), state, memory)
        target = tf.constant([WRITTEN[: place + 1] + [0] * ((longest or place + 1) - place - 1)])
        answer = keras.tree.flatten(whole([target, source] if swap else [source, target]))[scores]
        wanted = answer[0, place] if len(answer.shape) == 3 else answer[0]
        np.testing.assert_allclose(np.reshape(got, -1), wanted, atol=1e-5)
    return steps


def embedded(x: Any, y: Any, mask: bool = True) -> tuple[Any, Any]:
    return (layers.Embedding(n, 5, mask_zero=mask)(ids) for n, ids in ((ENTRIES, x), (PIECES, y)))


def plain(x: Any, y: Any) -> Any:
    """A GRU each, joined by the state."""
    x, y = embedded(x, y)
    return layers.Dense(PIECES)(
        layers.GRU(UNITS, return_sequences=True)(y, initial_state=layers.GRU(UNITS)(x))
    )


def attending(attend: Callable[[Any, Any], Any]) -> Build:
    """Return the same with attention."""

    def build(x: Any, y: Any) -> Any:
        x, y = embedded(x, y)
        seen, state = layers.GRU(UNITS, return_sequences=True, return_state=True)(x)
        y = layers.GRU(UNITS, return_sequences=True)(y, initial_state=state)
        return layers.Dense(PIECES)(layers.Concatenate()([y, attend(y, seen)]))

    return build


def by_operations(y: Any, seen: Any) -> Any:
    """Attention written with `keras.ops`."""
    weights = ops.softmax(ops.matmul(y, ops.transpose(seen, (0, 2, 1))))
    return ops.matmul(weights, seen)


def by_layers(y: Any, seen: Any) -> Any:
    """Attention written with `Dot` and a softmax layer."""
    weights = layers.Softmax(name="weights")(layers.Dot(axes=[2, 2])([y, seen]))
    return layers.Dot(axes=[2, 1])([weights, seen])


def after_dropout(y: Any, seen: Any) -> Any:
    """`Dropout` gives back the very value that it is given, and both are read."""
    return layers.Attention()([y, layers.Dropout(0.5)(seen), seen])


@pytest.mark.parametrize(
    "attend",
    [
        lambda y, seen: layers.Attention()([y, seen]),
        lambda y, seen: layers.AdditiveAttention()([y, seen]),
        lambda y, seen: layers.MultiHeadAttention(2, 3)(y, seen),
        by_operations,
        by_layers,
        after_dropout,
    ],
    ids=["dot", "additive", "heads", "operations", "layers", "dropout"],
)
def test_attention_is_found(attend: Callable[[Any, Any], Any]) -> None:
    """However it is written: each step is that of the whole, and its weights sum to 1."""
    steps = assert_same(model(attending(attend)))
    state, memory = steps.encode(tf.constant(SOURCE))
    _, _, weights = steps.advance(tf.constant([2]), state, memory)
    (values,) = weights.values()
    assert values.shape[-1] == len(SOURCE[0])
    np.testing.assert_allclose(np.sum(values, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("fixed", [None, 4])
def test_the_inputs_are_told_apart(fixed: int | None) -> None:
    """In either order, open or both of one length: what is written later cannot change the first answer."""
    for swap in (False, True):
        steps = assert_same(model(plain, fixed, fixed, swap), swap)
        roles = {part.split()[1]: role for part, _, role in steps.table if part.startswith("input")}
        assert roles == {"x": "source", "y": "target"}
        assert (steps.length, steps.longest) == (fixed, fixed)


def test_an_answer_for_the_last_word_alone() -> None:
    """The decoder's layer returns no sequence."""

    def build(x: Any, y: Any) -> Any:
        x, y = embedded(x, y)
        return layers.Dense(PIECES)(
            layers.LSTM(UNITS)(y, initial_state=layers.LSTM(UNITS, return_state=True)(x)[1:])
        )

    assert_same(model(build))


def test_the_output_as_wide_as_the_vocabulary_is_taken() -> None:
    """Of a model that gives its weights too; where both are as wide, the contract names one."""

    def build(x: Any, y: Any) -> Any:
        x, y = embedded(x, y)
        seen, state = layers.GRU(UNITS, return_sequences=True, return_state=True)(x)
        y = layers.GRU(UNITS, return_sequences=True)(y, initial_state=state)
        context, weights = layers.Attention()([y, seen], return_attention_scores=True)
        return [weights, layers.Dense(PIECES, name="words")(layers.Concatenate()([y, context]))]

    assert_same(model(build), scores=1)
    twice = model(lambda x, y: [plain(x, y), plain(x, y)])
    with pytest.raises(
        ConfigInvalid, match=r"decoder\.outputs\.scores: own\.keras has the outputs .* name one"
    ):
        steps_of(twice)
    steps_of(twice, decoder={"outputs": {"scores": 1}})


@pytest.mark.filterwarnings("ignore:Layer 'sequential")  # Keras, of a mask that a Sequential drops
def test_parts_within_parts() -> None:
    """A recurrent layer in a Sequential, cells in a stack, a layer that both sides share."""

    def build(x: Any, y: Any) -> Any:
        shared = layers.Embedding(PIECES, 5, mask_zero=True)
        reader = keras.Sequential([shared, layers.Bidirectional(layers.GRU(UNITS // 2))])
        cells = layers.StackedRNNCells([layers.GRUCell(UNITS), layers.LSTMCell(4)])
        state = reader(x)
        deep = layers.RNN(cells, return_sequences=True)(shared(y), initial_state=[state, [state[:, :4]] * 2])
        writer = keras.Sequential([layers.GRU(UNITS, return_sequences=True), layers.Dense(PIECES)])
        return writer(deep)

    assert_same(model(build))


def halves(x: Any) -> list[Any]:
    """Return a state for each direction."""
    state = layers.GRU(UNITS)(x)
    return [state[:, :3], state[:, 3:]]


class Own(layers.Layer):
    """A decoder of one's own, its recurrent layer out of reach."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.supports_masking = True
        self.gru = layers.GRU(UNITS, return_sequences=True, name="inner")

    def call(self, y: Any, state: Any) -> Any:
        return self.gru(y, initial_state=state)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda x, y: layers.Dense(PIECES)(
                layers.Bidirectional(layers.GRU(3, return_sequences=True))(y, initial_state=halves(x))
            ),
            "reads the target from both ends: it cannot be written word by word",
        ),
        (
            lambda x, y: layers.Dense(PIECES)(Own()(y, layers.GRU(UNITS)(x))),
            "layer 'own' is a class of its own that holds 'inner': it cannot be run word by word from "
            'outside; function = "load"',
        ),
    ],
)
def test_what_cannot_be_written_word_by_word(build: Build, message: str) -> None:
    """Is refused by the layer's name."""
    steps = steps_of(model(lambda x, y: build(*embedded(x, y))))
    with pytest.raises(ConfigInvalid) as caught:
        steps.encode(tf.constant(SOURCE))
    assert message in caught.value.message


def test_other_than_two_inputs() -> None:
    """The message names them, and the ways out."""
    x = keras.Input((None,), name="x")
    with pytest.raises(ConfigInvalid) as caught:
        steps_of(keras.Model(x, layers.Embedding(ENTRIES, PIECES)(x)))
    assert (
        "own.keras has the inputs 'x'; the source and the target so far are expected" in caught.value.message
    )
