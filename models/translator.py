"""The decoding signatures of a translator, whoever trained it, and what its manifest says of them.

A translator is two functions, `encode` and `advance`; the loops of `networks.decoding` run around them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from seqserve.models.config import LONGEST_OUTPUT
from seqserve.models.draft import clearest
from seqserve.models.manifest import Identity, build_manifest, input_tensor, row_tensor
from seqserve.models.networks.decoding import (
    Advance,
    Bounds,
    Decoded,
    Memory,
    Sampler,
    State,
    beam,
    for_beams,
    greedy,
    sample,
)
from seqserve.models.networks.shortlist import Candidates
from seqserve.service.contract.manifest import (
    Decode,
    Limits,
    Manifest,
    Option,
    Signature,
    SpecialIds,
    Tensor,
    Tokens,
)
from seqserve.service.contract.padding import Array
from seqserve.service.contract.shortlist import Shortlist

SOURCE = "source_ids"
Kind = Literal["greedy", "beam", "sample"]
OptionName = Literal["max_length", "length_penalty", "beam_size", "temperature", "top_k", "seed", "alignment"]
Encode = Callable[[tf.Tensor], tuple[State, Memory]]
"""Ids (batch, source) -> the first state, and what every step reads."""
EXAMPLE_PENALTY, MARGIN_BEAMS = 0.6, 3
"""The length penalty of golden examples by beams, and hypotheses of theirs whose order must be clear."""


@dataclass(frozen=True, slots=True)
class Searches:
    """Greedy, beam search and sampling around one translator.

    Args:
        special: of the target; with candidates their places among those.
        has_attention: `advance` returns weights over the source; else what it returns is no output.
        shares_memory: `advance` takes the memory as `encode` or `within` returns it; else once more for each
            beam.
        candidates: what each row may write, of its source ids; None: every piece. With it `within` is given.
        written: int32 (ids), the piece that each id of `advance` stands for; None: itself.
        within: returns what advances over the candidates alone, whose places are its ids, and its memory.
    """

    encode: Encode
    advance: Advance
    special: SpecialIds
    has_attention: bool = True
    shares_memory: bool = True
    candidates: Callable[[tf.Tensor], Candidates] | None = None
    within: Callable[[Candidates, Memory], tuple[Advance, Memory]] | None = None
    written: tf.Tensor | None = None

    def functions(self, kinds: Sequence[Kind]) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """Return the functions of the signatures, from the source and `INPUTS` to `OUTPUTS`, by name."""
        return {kind: getattr(self, kind) for kind in kinds}

    def greedy(
        self,
        source_ids: tf.Tensor,
        max_length: tf.Tensor,
        length_penalty: tf.Tensor,
        alignment: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Take the best piece at every step."""
        bounds = Bounds(max_length, length_penalty)
        begun = self._begun(source_ids, 1)
        return self._answer(greedy(*begun.parts, bounds, self.special), begun, alignment)

    def beam(
        self,
        source_ids: tf.Tensor,
        max_length: tf.Tensor,
        length_penalty: tf.Tensor,
        beam_size: tf.Tensor,
        alignment: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Search with several hypotheses."""
        bounds = Bounds(max_length, length_penalty)
        begun = self._begun(source_ids, beam_size)
        return self._answer(beam(*begun.parts, bounds, self.special, beam_size), begun, alignment)

    def sample(
        self,
        source_ids: tf.Tensor,
        max_length: tf.Tensor,
        length_penalty: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        seed: tf.Tensor,
        alignment: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Draw every piece."""
        begun = self._begun(source_ids, 1)
        bounds, sampler = Bounds(max_length, length_penalty), Sampler(temperature, top_k, seed)
        drawn = sample(*begun.parts, bounds, self.special, sampler, LONGEST_OUTPUT)
        return self._answer(drawn, begun, alignment)

    def _begun(self, source_ids: tf.Tensor, beam_size: tf.Tensor | int) -> "_Begun":
        state, memory = self.encode(source_ids)
        advance, pieces = self.advance, self.written
        if self.candidates is not None and self.within is not None:
            candidates = self.candidates(source_ids)
            advance, memory = self.within(candidates, memory)
            pieces = candidates.pieces
        memory = memory if self.shares_memory else for_beams(memory, beam_size)
        return _Begun((advance, state, memory), pieces)

    def _answer(self, decoded: Decoded, begun: "_Begun", alignment: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return the outputs; the attention itself has steps only where one of the rows asks for it."""
        ids = decoded.ids if begun.pieces is None else tf.gather(begun.pieces, decoded.ids)
        answer = {"ids": ids, "lengths": decoded.lengths, "scores": decoded.scores}
        if not self.has_attention or alignment is None:
            return answer
        shown = tf.where(tf.reduce_any(alignment), tf.shape(decoded.ids)[2], 0)
        return {
            **answer,
            "coverage": tf.reduce_sum(decoded.attention, axis=2),
            "attended": tf.argmax(decoded.attention, axis=-1, output_type=tf.int32),
            "attention": decoded.attention[:, :, :shown],
        }


class _Begun(NamedTuple):
    """What a loop takes of a translator, and the piece that each of its ids stands for; None: itself."""

    parts: tuple[Advance, State, Memory]
    pieces: tf.Tensor | None = None  # int32 (ids)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the manifest of a translator says, beyond its signatures.

    Args:
        source: the text that goes in.
        pieces: how many ids the target has.
        shortlist: how many candidates rows have, where they have not all pieces.
        most_beams: what is offered; fewer where the target has few pieces; 1: no beam search.
        output_length: the default of the longest output, in pieces.
    """

    source: Tokens
    special: SpecialIds
    pieces: int
    text_characters: int
    output_length: int
    most_beams: int = 8
    longest_output: int = LONGEST_OUTPUT
    has_attention: bool = True
    shortlist: Shortlist | None = None

    @property
    def max_beams(self) -> int:
        """The most beams: `decoding.beam` needs a vocabulary of three pieces more."""
        return max(1, min(self.most_beams, self.pieces - 3))

    @property
    def kinds(self) -> list[Kind]:
        """The signatures that there are."""
        return [kind for kind in INPUTS if kind != "beam" or self.max_beams > 1]

    def manifest(self, identity: Identity, tokenizer: str | None = None, **parts: Any) -> Manifest:
        """Return the manifest.

        Args:
            tokenizer: the target's; None: the source's is both.
            parts: further fields of it.
        """
        own = {} if tokenizer is None else {"tokenizer": tokenizer}
        decode = Decode(
            signatures={kind: kind for kind in self.kinds},
            max_beams=self.max_beams,
            default_length=self.output_length,
            max_length=self.longest_output,
            special_ids=self.special,
            shortlist=self.shortlist,
            **own,
        )
        text = {SOURCE: input_tensor(self.source, self.source.special_ids.pad)}
        given = OUTPUTS | (OF_ATTENTION if self.has_attention else {})
        return build_manifest(
            identity,
            {kind: Signature(inputs={**text, **self._inputs(kind)}, outputs=given) for kind in self.kinds},
            options=self._options(),
            features={SOURCE: self.source},
            decode=decode,
            limits=Limits(text_characters=self.text_characters, text_pieces=identity.buckets[-1]),
            **parts,
        )

    def _inputs(self, kind: Kind) -> dict[str, Tensor]:
        return INPUTS[kind] | ({"alignment": row_tensor("bool")} if self.has_attention else {})

    def _options(self) -> dict[str, Option]:
        """Return the options of the signatures, by the inputs that they feed."""
        ranges: dict[OptionName, tuple[float, float, float]] = {  # default, minimum, maximum
            "max_length": (self.output_length, 1, self.longest_output),
            "length_penalty": (1.0, 0.0, 5.0),
            "beam_size": (1, 1, self.max_beams),
            "temperature": (1.0, 0.05, 5.0),
            "top_k": (0, 0, self.pieces),
            "seed": (0, -(2**63), 2**63 - 1),
            "alignment": (0, 0, 1),
        }
        fed = {name for kind in self.kinds for name in self._inputs(kind)}
        return {
            name: Option(option=name, default=default, minimum=minimum, maximum=maximum)
            for name, (default, minimum, maximum) in ranges.items()
            if name in fed
        }

    def requests(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return the golden requests: each text greedily, all by beams, all sampled.

        Samples are of the best piece alone: near the edge between two pieces, a device that rounds otherwise
        would draw the other one.
        """
        beams = {"beam_size": min(4, self.max_beams), "n_best": 2, "length_penalty": EXAMPLE_PENALTY}
        beams |= {"alignment": True} if self.has_attention else {}
        drawn = {"sampling": {"temperature": 0.5, "top_k": 1, "seed": 1}}
        return [
            *({"texts": [text]} for text in texts),
            *([{"texts": list(texts), **beams}] if self.max_beams > 1 else []),
            {"texts": list(texts), **drawn},
        ]


def clear_rows(searches: Searches, plan: Plan, source: Array) -> list[int]:
    """Choose a short, a medium and a long row, whose best hypotheses are scored far apart.

    Args:
        source: ids (rows, source), padded, the shorter rows first.
    """
    if plan.max_beams == 1:
        return sorted({0, len(source) // 2, len(source) - 1})
    rows, beams = len(source), min(MARGIN_BEAMS, plan.max_beams)
    length, penalty = np.full(rows, plan.output_length), np.full(rows, EXAMPLE_PENALTY)
    given = zip((source, length, penalty, beams), (SOURCE_SPEC, *specs("beam")), strict=True)
    search = tf.function(searches.beam, input_signature=[SOURCE_SPEC, *specs("beam")])
    scores = search(*(tf.constant(value, spec.dtype) for value, spec in given))["scores"]
    margins = (-np.diff(scores.numpy(), axis=1)).min(axis=1)  # (rows)
    return clearest((source != plan.source.special_ids.pad).sum(axis=1).tolist(), margins.tolist())


def specs(kind: Kind) -> list[tf.TensorSpec]:
    """Return the specs of what a signature takes beside the source."""
    return [tf.TensorSpec([None] * len(tensor.axes), tensor.dtype) for tensor in INPUTS[kind].values()]


SOURCE_SPEC = tf.TensorSpec([None, None], tf.int32)
LIMITS = {"max_length": row_tensor("int32"), "length_penalty": row_tensor("float32")}
INPUTS: Mapping[Kind, dict[str, Tensor]] = {
    "greedy": LIMITS,
    "beam": {**LIMITS, "beam_size": Tensor(dtype="int32", axes=())},
    "sample": {
        **LIMITS,
        "temperature": row_tensor("float32"),
        "top_k": row_tensor("int32"),
        "seed": row_tensor("int64"),
    },
}
"""What each signature takes beside the source; and `alignment`, where there is attention."""
OUTPUTS = {
    "ids": Tensor(dtype="int32", axes=("batch", "beam", "time")),
    "lengths": Tensor(dtype="int32", axes=("batch", "beam")),
    "scores": Tensor(dtype="float32", axes=("batch", "beam")),
}
OF_ATTENTION = {
    "coverage": Tensor(dtype="float32", axes=("batch", "beam", "source")),
    "attended": Tensor(dtype="int32", axes=("batch", "beam", "time")),
    "attention": Tensor(dtype="float32", axes=("batch", "beam", "time", "source")),
}
"""What each signature gives: always, and where there is attention."""
