"""What rows of a user's translator may write, found in parallel texts: those that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.narrow import FIELD
from seqserve.models.bring.translation.vocabularies import Read
from seqserve.models.config import ConfigInvalid
from seqserve.models.data.partners import Rows, commonest, partners
from seqserve.models.data.texts import Pair, read_columns, read_pairs
from seqserve.models.networks.shortlist import Shortlist
from seqserve.service.contract import shortlist as told
from seqserve.service.contract.padding import Array
from seqserve.service.errors import SeqserveError


@dataclass(frozen=True, slots=True)
class Found:
    """A shortlist, what the manifest says of it, and what the card says of the texts."""

    shortlist: Shortlist
    told: told.Shortlist
    texts: dict[str, Any]

    @property
    def note(self) -> str:
        """Say what a row may write, and by which texts."""
        common, partners = self.told.common, self.told.partners
        return (
            f"shortlist: a row may write the {common} commonest target pieces and {partners} partners of "
            f"each of its own, by {self.texts['pairs']} pairs of {self.texts['file']} "
            f"({self.texts['passed_over']} passed over); scores are over those"
        )


def find_candidates(
    texts: Path, contract: TranslationContract, sides: tuple[Read, Read], longest: int, console: Console
) -> Found:
    """Count which target pieces the source's become, in a folder of texts or a file of two columns.

    Args:
        sides: the source's vocabulary and the target's.
        longest: source pieces that a row may have; longer pairs are passed over.

    Raises:
        ConfigInvalid: the texts cannot be read, or none of them is of these vocabularies.
    """
    source, target = sides
    pairs = _pairs(texts, contract)
    shown = track(pairs, "texts for the shortlist", console=console, transient=True)
    both = (
        (_ids(source, pair.source, longest), _ids(target, pair.target, contract.target.length))
        for pair in shown
    )
    rows = [(one, other) for one, other in both if one is not None and other is not None]
    if not rows:
        raise ConfigInvalid(
            f"{FIELD} {texts}: none of its {len(pairs)} pairs is of the model's vocabularies and lengths"
        )
    common = commonest(rows, target.vocabulary.size, contract.shortlist.common)
    if len(common) < 2 * contract.max_beams:
        raise ConfigInvalid(
            f"{FIELD} {texts}: its translations have {len(common)} pieces, fewer than twice max_beams, "
            f"{contract.max_beams}"
        )
    sizes = told.Shortlist(common=len(common), partners=contract.shortlist.partners)
    with console.status("which pieces become which"):
        shortlist = _shortlist(rows, source, target, common, sizes.partners)
    counted = {"file": texts.name, "pairs": len(rows), "passed_over": len(pairs) - len(rows)}
    return Found(shortlist, sizes, counted)


def _pairs(texts: Path, contract: TranslationContract) -> Sequence[Pair]:
    if not texts.is_dir():
        return read_columns(texts)
    if contract.languages is None:
        raise ConfigInvalid(
            f"{FIELD} {texts} is a folder: give languages, which train.SOURCE and train.TARGET are named by"
        )
    return read_pairs(texts, "train", contract.languages.source, contract.languages.target)


def _ids(side: Read, text: str, longest: int) -> Array | None:
    """Return a text's ids; None where the model takes no such text."""
    try:
        ids = side.vocabulary.encode(text)
    except SeqserveError:  # a piece that the vocabulary rejects
        return None
    return np.array(ids, np.int32) if 0 < len(ids) <= longest else None


def _shortlist(rows: Rows, source: Read, target: Read, common: Array, count: int) -> Shortlist:
    most = max(source.vocabulary.size, target.vocabulary.size)
    likely = partners(rows, most, count, target.special.pad)
    return Shortlist(likely, common, target.special, target.vocabulary.size, source.special.pad)
