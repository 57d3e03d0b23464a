"""A translator as TensorFlow's tutorial exports it: a SavedModel of strings, its whole loop in the graph.

    python examples/translators/strings.py --out build/strings

writes translator/ (a SavedModel) and expected.jsonl, what it gives when loaded again. It is the translator of
attention.py, trained the same way. With --tensorflow-text the graph takes accents off by an operation of
tensorflow_text, as the tutorial's does: pip install 'tensorflow-text==2.20.*'. Nothing here knows of seqserve
but the phrases; strings.toml is what serving it takes.
"""

import sys
from collections.abc import Sequence

import attention
import keras
import tensorflow as tf
from attention import Translator, standardize, text_processor, train
from keras import layers
from phrases import HELD_OUT, SEED, read_options, read_phrases, share_right, write_expected

FLAG = "--tensorflow-text"


class Export(tf.Module):
    """Texts in, texts out."""

    def __init__(
        self, model: Translator, source: layers.TextVectorization, target: layers.TextVectorization
    ) -> None:
        super().__init__()
        self.model, self.source = model, source
        words = target.get_vocabulary()
        self.words = tf.constant(words)
        self.start, self.end = (tf.constant(words.index(word), tf.int64) for word in ("[START]", "[END]"))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def translate(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the translations (batch), an empty one for a text without words."""
        source_ids = self.source(inputs).to_tensor()
        context, mask = self.model.encoder(source_ids), source_ids != 0
        rows = tf.shape(inputs)[0]
        state = tf.zeros((rows, self.model.sizes["units"]))
        next_word, done = tf.fill((rows, 1), self.start), tf.fill((rows, 1), False)
        words = tf.TensorArray(tf.int64, size=1, dynamic_size=True)
        for step in tf.range(attention.LONGEST):
            logits, state = self.model.decoder(
                context, next_word, state, context_mask=mask, return_state=True
            )
            next_word = tf.argmax(logits, axis=-1)
            done = done | (next_word == self.end)
            next_word = tf.where(done, tf.constant(0, tf.int64), next_word)
            words = words.write(step, next_word[:, 0])
            if tf.reduce_all(done):
                break
        ids = tf.transpose(words.stack())  # (batch, time)
        return tf.strings.strip(tf.strings.reduce_join(tf.gather(self.words, ids), axis=-1, separator=" "))


def without_accents(text: tf.Tensor) -> tf.Tensor:
    """Standardize as attention.py does, after taking accents off by tensorflow_text."""
    import tensorflow_text

    decomposed = tensorflow_text.normalize_utf8(text, "NFKD")
    return standardize(tf.strings.regex_replace(decomposed, r"\p{Mn}", ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, load, translate what was held out and say how much of it is right."""
    arguments = sys.argv[1:] if arguments is None else arguments
    rule = without_accents if FLAG in arguments else standardize
    given = [argument for argument in arguments if argument != FLAG]
    options = read_options(__doc__, given, out="build/strings", pairs=2000, epochs=4)
    keras.utils.set_random_seed(SEED)
    phrases, held_out = read_phrases("train", options.pairs), read_phrases("validation", HELD_OUT)
    source = text_processor([phrase.source for phrase in phrases], rule)
    target = text_processor([phrase.target for phrase in phrases], rule)
    export = Export(train(phrases, source, target, options.epochs), source, target)
    folder = str(options.out / "translator")
    tf.saved_model.save(export, folder, signatures={"serving_default": export.translate})
    texts = [phrase.source for phrase in held_out]
    loaded = tf.saved_model.load(folder)
    answers = loaded.translate(tf.constant(texts))
    translations = [text.decode() for text in answers.numpy()]
    write_expected(options.out, texts, translations)
    right = share_right(translations, attention.standardized([phrase.target for phrase in held_out], rule))
    print(f"{options.out}: {right:.1%} of {len(texts)} phrases it has not seen are right")


if __name__ == "__main__":
    main()
