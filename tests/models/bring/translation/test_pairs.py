"""An encoder and one step of the decoder joined by shape and name; what does not fit is refused by field."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.translation.contract import Decoder, Encoder
from seqserve.models.bring.translation.pairs import Callee, join
from seqserve.models.bring.translation.steps import Steps
from seqserve.models.config import ConfigInvalid

PIECES, UNITS = 9, 4
TEXT, WORD = Port("text", (None, None), "int32"), Port("word", (None, 1), "int32")
SEEN = Port("seen", (None, None, UNITS), "float32")
SCORES = Port("scores", (None, PIECES), "float32")


def state(name: str, units: int = UNITS) -> Port:
    """Return a state's port."""
    return Port(name, (None, units), "float32")


class Part:
    """A model that gives what it is told to, and notes what it is given."""

    def __init__(self, name: str, inputs: list[Port], outputs: list[Port]) -> None:
        """Take the ports; every output is filled with its place."""
        self.given: list[Any] = []
        self._outputs = outputs
        self.callee = Callee(name, tuple(inputs), tuple(outputs), self.call, self)

    def call(self, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return values (1, …), of sources of three places; the first open axis of a memory has a mask."""
        self.given = inputs
        outputs = []
        for place, port in enumerate(self._outputs):
            value = tf.fill([1, *(size or 3 for size in port.shape[1:])], float(place))
            if port == SEEN:
                value._keras_mask = tf.constant([[True, True, False]])
            outputs.append(value)
        return outputs


def joined(
    encoder: list[Port], takes: list[Port], gives: list[Port], /, **more: Any
) -> tuple[Steps, Part, Part]:
    """Join an encoder of one text with a decoder."""
    first, second = Part("encoder", [TEXT], encoder), Part("decoder", takes, gives)
    roles = Encoder.model_validate(more.get("encoder", {})), Decoder.model_validate(more.get("decoder", {}))
    return join(first.callee, second.callee, roles, PIECES), first, second


def advanced(steps: Steps, word: int = 7) -> tuple[Any, Any, dict[str, Any]]:
    """Run the encoder and one step."""
    first, memory = steps.encode(tf.constant([[5, 6, 0]]))
    return steps.advance(tf.constant([word]), first, memory)


def refused(*ports: list[Port], **more: Any) -> str:
    """Return the message of what is refused."""
    with pytest.raises(ConfigInvalid) as caught:
        joined(*ports, **more)
    return caught.value.message


def test_states_go_on_in_the_order_of_the_inputs() -> None:
    """They begin as the encoder's, and each step's are given to the next."""
    takes, gives = [WORD, state("h"), state("c")], [SCORES, state("h2"), state("c2")]
    steps, _, decoder = joined([state("a"), state("b")], takes, gives)
    scores, after, weights = advanced(steps)
    assert [float(np.mean(value)) for value in decoder.given] == [7, 0, 1]
    assert (float(np.mean(scores)), [float(np.mean(value)) for value in after]) == (0, [1, 2])
    assert weights == {}


def test_what_the_decoder_does_not_take_is_left_out() -> None:
    """A sequence that the encoder gives as well, or states where the decoder begins with zeros."""
    steps, *_ = joined([SEEN, state("a")], [WORD, state("h")], [SCORES, state("h2")])
    assert ("encoder output seen", str(SEEN.shape), "not used") in steps.table
    zeros = {"decoder": {"initial": "zeros"}}
    steps, _, decoder = joined([SEEN, state("a")], [WORD, SEEN, state("h")], [SCORES, state("h2")], **zeros)
    assert ("encoder output a", "(None, 4)", "not used") in steps.table
    advanced(steps)
    assert float(np.mean(decoder.given[2])) == 0


def test_the_mask_is_the_input_of_booleans() -> None:
    """It is given where the source is no padding, cast to what the input takes."""
    mask = Port("where", (None, None), "bool")
    steps, _, decoder = joined([SEEN, state("a")], [WORD, SEEN, mask, state("h")], [SCORES, state("h2")])
    advanced(steps)
    assert decoder.given[2].numpy().tolist() == [[True, True, False]]
    numbers = Port("where", (None, None), "float32")
    named = {"decoder": {"inputs": {"mask": "where"}}}
    takes = [WORD, SEEN, numbers, state("h")]
    steps, _, decoder = joined([SEEN, state("a")], takes, [SCORES, state("h2")], **named)
    advanced(steps)
    assert decoder.given[2].numpy().tolist() == [[1.0, 1.0, 0.0]]


def test_keras_masks_go_along_unless_sources_have_one_length() -> None:
    """Models that are called hand on their masks; `predict`, which loops that pad go by, drops them."""
    steps, _, decoder = joined([SEEN, state("a")], [WORD, SEEN, state("h")], [SCORES, state("h2")])
    advanced(steps.for_length(None))
    assert decoder.given[1]._keras_mask.numpy().tolist() == [[True, True, False]]
    advanced(steps.for_length(3))
    assert getattr(decoder.given[1], "_keras_mask", None) is None


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((None,), [7]), ((None, 1), [[7]]), ((None, None), [[7]]), ((None, 1, PIECES), None)],
)
def test_the_last_word_in_every_shape(shape: tuple[int | None, ...], wanted: Any) -> None:
    """Ids with or without an axis of time, or one-hot."""
    word = Port("word", shape, "int32" if wanted else "float32")
    steps, _, decoder = joined([state("a")], [state("h"), word], [state("h2"), SCORES])
    advanced(steps)
    given = decoder.given[1].numpy().tolist()
    assert given == ([keras.utils.to_categorical([7], PIECES).tolist()] if wanted is None else wanted)


def test_the_scores_are_found_by_their_width() -> None:
    """Among states, and beside weights whose width is open; of two that may be, the contract names one."""
    weights = Port("weights", (None, None), "float32")
    steps, *_ = joined([state("a")], [WORD, state("h")], [weights, state("h2"), SCORES])
    assert float(np.mean(advanced(steps)[0])) == 2
    wide = [state("h2", PIECES), SCORES]
    message = refused([state("a", PIECES)], [WORD, state("h", PIECES)], wide)
    assert message.startswith("decoder.outputs.scores: which output scores the next piece? 'h2'")
    assert message.endswith(f"as the target has {PIECES} pieces")
    named = {"decoder": {"outputs": {"scores": "scores"}}}
    steps, *_ = joined([state("a", PIECES)], [WORD, state("h", PIECES)], wide, **named)
    assert float(np.mean(advanced(steps)[0])) == 1


@pytest.mark.parametrize(
    ("gives", "back"), [([], "none"), ([state("h2")], "'h2'"), ([state("h2"), state("c2", 3)], "'h2'")]
)
def test_a_state_in_another_shape_is_refused(gives: list[Port], back: str) -> None:
    """Not given back, or only one of two, or of another width."""
    message = refused([state("a"), state("b")], [WORD, state("h"), state("c")], [SCORES, *gives])
    assert message.startswith(
        "decoder.outputs.states: the decoder takes the states 'h' (None, 4) float32, 'c'"
    )
    assert f"gives back {back}" in message
    assert "return_state=True" in message


def test_scores_of_another_width_are_refused() -> None:
    """The file is not the one of training, or the model has more rows than it has entries."""
    wide, narrow = (Port("scores", (None, PIECES + step), "float32") for step in (1, -1))
    message = refused([state("a")], [WORD, state("h")], [wide, state("h2")])
    assert message.startswith(f"target: the vocabulary has {PIECES} entries, the decoder's output 'scores'")
    assert message.endswith(f"If so, target.size = {PIECES + 1}")
    message = refused([state("a")], [WORD, state("h")], [narrow, state("h2")])
    assert message.endswith("An entry that is no word counts too")


def test_what_the_encoder_gives_must_be_what_the_decoder_takes() -> None:
    """Three states for two, of another width, no memory."""
    takes, gives = [WORD, state("h"), state("c")], [SCORES, state("h2"), state("c2")]
    message = refused([state("out"), state("a"), state("b")], takes, gives)
    assert message.startswith("encoder.outputs.states: the encoder gives 'out' (None, 4) float32, 'a'")
    assert 'initial = "zeros" in [decoder] if it begins so' in message
    assert refused([state("a", 3), state("b")], takes, gives).startswith("encoder.outputs.states")
    message = refused([state("a"), state("b")], [*takes, SEEN], gives)
    assert message.startswith("encoder.outputs.memory: the encoder gives none, the decoder takes 'seen'")
    named = {"encoder": {"outputs": {"states": ["a", "b"]}}}
    joined([state("out"), state("a"), state("b")], takes, gives, **named)


def test_inputs_that_could_be_the_word_are_asked_for() -> None:
    """The message says in which shapes a word is taken."""
    message = refused(
        [state("a")], [WORD, Port("other", (None, 1), "int32"), state("h")], [SCORES, state("h2")]
    )
    assert message.startswith("decoder.inputs.word: which input takes the last word")
    assert f"(batch, 1, {PIECES})" in message
