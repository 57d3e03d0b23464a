"""Training the tokenizer of a translation model."""

import io
from collections.abc import Sequence

import sentencepiece

from seqserve.service.contract.manifest import SpecialIds


def train_tokenizer(
    texts: Sequence[str],
    vocabulary_size: int,
    special: SpecialIds,
    character_coverage: float = 1.0,
    longest_piece: int = 16,
) -> bytes:
    """Train a SentencePiece unigram model on the texts; returns its file's bytes.

    Args:
        character_coverage: share of the texts' characters that get a piece, the commonest first.
        longest_piece: in characters. Where it is short, compounds are cut into parts that they share.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,  # fewer pieces where the texts have fewer
        character_coverage=character_coverage,
        max_sentencepiece_length=longest_piece,
        split_digits=True,  # numbers are spelled digit by digit, so that unseen ones can be written
        pad_id=special.pad,
        unk_id=special.unknown,
        bos_id=special.start,
        eos_id=special.end,
        num_threads=1,  # the result does not depend on the machine
        minloglevel=2,
    )
    return model.getvalue()
