"""A translator that somebody else trained, made into a version: wrapped into `encode` and `advance`."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from seqserve.models.bring.brought import Brought
from seqserve.models.bring.keras_file import imported
from seqserve.models.bring.translation.alone import Alone, check_traceable
from seqserve.models.bring.translation.candidates import Found, find_candidates
from seqserve.models.bring.translation.compare import Ids, compare_ids, draw_texts
from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.narrow import FIELD, narrow
from seqserve.models.bring.translation.proof import NOT_COMPARED, compare, read_expected
from seqserve.models.bring.translation.read import read_steps
from seqserve.models.bring.translation.steps import Reading
from seqserve.models.bring.translation.strings import bring_strings
from seqserve.models.bring.translation.trial import try_steps
from seqserve.models.bring.translation.vocabularies import Read, read_source, read_target
from seqserve.models.config import ConfigInvalid
from seqserve.models.data.batches import pad_right
from seqserve.models.draft import Draft
from seqserve.models.manifest import Identity
from seqserve.models.translator import Plan, clear_rows
from seqserve.service.errors import SeqserveError

BUCKETS = (8, 16, 32, 64, 128)
LEAK = (
    "; give source.length, the length that training sources were padded to, and source.padding; or "
    "--allow-leak, if your own loop pads nothing"
)
TRIED, CANDIDATES = 6, 24
"""Texts that the steps are tried with, and those that golden examples are chosen from."""


def bring_translator(
    model: Path,
    contract: TranslationContract,
    version: int,
    imports: Sequence[Path] = (),
    expect: Path | None = None,
    shortlist_from: Path | None = None,
    console: Console | None = None,
) -> Brought:
    """Load a translator, try it, and draw up its version.

    Args:
        shortlist_from: parallel texts, by which rows are narrowed to candidates.
        console: shows how far those are read.

    Raises:
        ConfigInvalid: naming the field of the contract and the part of the model.
    """
    if not any(model.parent.glob(f"{glob.escape(model.name)}*")):  # a checkpoint's name is but a prefix
        raise ConfigInvalid(f"{model}: there is no such file or folder")
    if shortlist_from is None and "shortlist" in contract.model_fields_set:
        raise ConfigInvalid("shortlist: give --shortlist-from TEXTS, which its candidates are found in")
    if contract.source.kind == "none":
        if shortlist_from is not None:
            raise ConfigInvalid(
                f'{FIELD} {shortlist_from}: source.kind is "none", so the graph has its own loop'
            )
        return bring_strings(model, contract, version, imports, expect)
    defined = imported(imports)
    source, target = read_source(contract.source, model), read_target(contract.target, model)
    expected = read_expected(contract.examples, expect)
    steps = read_steps(model, contract, defined, target.vocabulary.size, source.special.pad).portable()
    contract = _with_fixed_length(contract, steps.length)
    used = steps.for_length(contract.source.length)
    given = list(dict.fromkeys([*(e.source for e in contract.examples), *(e.source for e in expected)]))
    drawn = draw_texts(source)
    own = _ids_of_user(contract, defined, model)
    compared = [
        compare_ids("source", source, [*given[:TRIED], *drawn], own),
        compare_ids("target", target, draw_texts(target), None),
    ]
    texts = _fitting(contract, source, given) or _fitting(contract, source, drawn)
    if not texts:
        raise ConfigInvalid("examples: give [[examples]] of real texts: none could be made of the vocabulary")
    unread = Alone(contract, steps, Reading(source.special.pad), source, target)
    reading, notes = try_steps(used, contract, source, target, [unread.row(text) for text in texts[:TRIED]])
    alone = replace(unread, reading=reading)
    found = None
    if shortlist_from is not None:
        longest, shown_on = _buckets(contract)[-1], console or Console(quiet=True)
        found = find_candidates(shortlist_from, contract, (source, target), longest, shown_on)
        alone = _narrowed(alone, found, texts[:TRIED])
    check_traceable(alone)
    draft = _draft(alone, texts, _fitting(contract, source, drawn)[:TRIED], version, found)
    proof = partial(compare, expected=expected, alone=alone)
    shown = [*_found(alone), *([found.note] if found else []), *filter(None, compared), *notes]
    if not expected:
        shown.append(NOT_COMPARED)
    advice = LEAK if contract.source.length is None else ""
    return Brought(draft, list(steps.table), shown, [], proof if expected else None, advice)


def _with_fixed_length(contract: TranslationContract, fixed: int | None) -> TranslationContract:
    """Return the contract with the length that the model's source axis has, where it is fixed."""
    if fixed is None:
        if contract.source.padding == "left" and contract.source.length is None:
            raise ConfigInvalid("source.padding: left is for rows of one length; give source.length")
        return contract
    if contract.source.length not in (None, fixed):
        raise ConfigInvalid(
            f"source.length: {contract.source.length}, but the model's source axis is {fixed}"
        )
    if contract.buckets not in (None, (fixed,)):
        raise ConfigInvalid(
            f"buckets: {contract.buckets}, but the model's source axis is {fixed}: leave it out"
        )
    return contract.model_copy(update={"source": contract.source.model_copy(update={"length": fixed})})


def _ids_of_user(contract: TranslationContract, defined: Mapping[str, Any], model: Path) -> Ids | None:
    """Return the user's own function from texts to ids, where the contract names one."""
    name = contract.source.ids
    if name is None:
        return None
    if not callable(defined.get(name)):
        raise ConfigInvalid(f"source.ids: {name!r} is not defined in a file given by --import")
    return partial(defined[name], model)


def _buckets(contract: TranslationContract) -> tuple[int, ...]:
    if contract.source.length is not None:
        return (contract.source.length,)
    return contract.buckets or BUCKETS


def _fitting(contract: TranslationContract, source: Read, texts: Sequence[str]) -> list[str]:
    """Return those of the texts that the model takes, the shorter ones first."""
    lengths = {}
    for text in texts:
        try:
            lengths[text] = len(source.vocabulary.encode(text))
        except SeqserveError:  # a piece that the vocabulary rejects
            continue
    fitting = [text for text in lengths if 0 < lengths[text] <= _buckets(contract)[-1]]
    return sorted(fitting, key=lambda text: (lengths[text], text))


def _narrowed(alone: Alone, found: Found, texts: Sequence[str]) -> Alone:
    rows, target = [alone.row(text) for text in texts], alone.target
    return replace(
        alone, narrowed=narrow(alone.loops(), rows, target.special, found.shortlist, target.vocabulary.size)
    )


def _draft(
    alone: Alone, texts: Sequence[str], drawn: Sequence[str], version: int, found: Found | None
) -> Draft:
    """Return the version: its examples are those of the texts whose answers are clear."""
    contract, source, target = alone.contract, alone.source, alone.target
    plan = Plan(
        source=source.tokens,
        special=target.special,
        pieces=target.vocabulary.size,
        text_characters=contract.limits.text_characters,
        output_length=contract.target.length,
        most_beams=contract.max_beams,
        has_attention=alone.reading.weights is not None,
        shortlist=None if found is None else found.told,
    )
    card = contract.card if found is None else {**contract.card, "shortlist_from": found.texts}
    candidates = texts[:: -(-len(texts) // CANDIDATES)]
    rows = pad_right([alone.row(text) for text in candidates], source.special.pad)
    clear = [candidates[place] for place in clear_rows(alone.searches, plan, rows)]
    manifest = plan.manifest(
        Identity(contract.name, version, _buckets(contract), card),
        tokenizer=target.name,
        mask="derived" if contract.source.length is None else "none",
        padding=contract.source.padding,
        languages=contract.languages,
    )
    functions = alone.searches.functions(plan.kinds)
    files = {source.name: source.data, target.name: target.data}
    probes = [{"texts": list(drawn)}] if drawn else []
    eager = {"greedy": functions["greedy"]}
    return Draft(alone.steps.keep, functions, manifest, files, plan.requests(clear), probes, eager)


def _found(alone: Alone) -> list[str]:
    """Say what was found rather than given."""
    special, vocabulary = alone.target.special, alone.target.vocabulary
    marks = [alone.target.entry(piece) for piece in (special.start, special.end)]
    scores = "probabilities" if alone.reading.probabilities else "logits"
    length, side = alone.contract.source.length, alone.contract.source.padding
    padding = (
        f"every source is padded on the {side} to {length}"
        if length
        else "no source.length, so the model must mask padding"
    )
    return [
        f"target: {vocabulary.size} pieces, from {marks[0]!r} to {marks[1]!r}; scores: {scores}; {padding}"
    ]
