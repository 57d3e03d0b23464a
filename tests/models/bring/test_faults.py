"""What is said of a contract file that is wrong: each field, its value and what to write, in one line."""

from pathlib import Path

import pytest

from seqserve.models.bring.load import load_contract
from seqserve.models.config import ConfigInvalid

NUMBERS = 'name = "own"\n[features.x]\nkind = "numbers"\n'
IDS = 'name = "own"\n[features.e]\nkind = "categories"\n'
HEAD = '[heads.y]\nkind = "softmax"\nlabels = ["a", "b"]\nscores = "probabilities"\n'

WRONG = {
    "one mean": (
        NUMBERS + "mean = 20.0\n" + HEAD,
        "features.x.mean: 20.0, but a list is expected: mean = [20.0]",
    ),
    "dates as labels": (
        f"{IDS}labels = {[1.5 + n for n in range(100)]}\n{HEAD}",
        'features.e.labels.0: 1.5, but its entries are strings: ["1.5", "2.5", "3.5", …]',
    ),
    "no kind": (
        NUMBERS.replace('kind = "numbers"\n', "") + HEAD,
        "features.x: kind is missing: categories, numbers, elapsed, text, tokens",
    ),
    "no such kind": (
        NUMBERS.replace("numbers", "number") + HEAD,
        "features.x: kind = 'number', not one of categories, numbers, elapsed, text, tokens",
    ),
    "no scores": (
        NUMBERS + HEAD.replace('scores = "probabilities"\n', ""),
        'heads.y.scores: it is missing: "probabilities" where the model ends with softmax or sigmoid, else '
        '"logits"',
    ),
    "softmax as scores": (
        NUMBERS + HEAD.replace("probabilities", "softmax"),
        "heads.y.scores: 'softmax' is not 'logits' or 'probabilities': scores = \"probabilities\"",
    ),
    "a slip": (
        NUMBERS + "sclae = [1.0]\n" + HEAD,
        "features.x.sclae: there is no such field: is scale meant?",
    ),
    "a slip at the top": (
        "bucket = [8]\n" + NUMBERS + HEAD,
        "bucket: there is no such field: is buckets meant?",
    ),
    "as pad_sequences": (
        'padding = "pre"\n' + NUMBERS + HEAD,
        "padding: 'pre' is not 'right' or 'left': padding = \"left\"",
    ),
    "another task": (
        'task = "classification"\n' + NUMBERS + HEAD,
        "task: 'classification' is not 'sequence' or 'translation'",
    ),
    "no heads": (NUMBERS, "heads: it is missing: add [heads.NAME]"),
    "a name of two words": (
        NUMBERS.replace('"own"', '"my model"') + HEAD,
        "name: 'my model': letters, digits and _ . - alone",
    ),
    "a name with a dash": (
        NUMBERS.replace("features.x", "features.my-x") + HEAD,
        "features.my-x: 'my-x': letters, digits and _ alone, a letter first; input = NAME says what the "
        "model calls it",
    ),
    "classes ahead": (
        NUMBERS + HEAD + 'per = "horizon"\n',
        "heads.y.per: 'horizon' is not 'sequence' or 'step': steps ahead are numbers, kind = \"numeric\"",
    ),
    "a table for a list": (
        NUMBERS + HEAD + "[examples]\nx = [1]\n",
        "examples: one table, but a list of them is expected: [[examples]]",
    ),
    "a number for a table": (
        "limits = 50\n" + NUMBERS + HEAD,
        "limits: 50, but a table is expected: [limits]",
    ),
    "a bucket that nobody waits for": (
        "buckets = [8, 200000]\n" + NUMBERS + HEAD,
        "buckets: at most 65536 steps, not 200000: each is tried",
    ),
    "six examples": (
        f"examples = [{'{x = [1]}, ' * 6}]\n{NUMBERS}{HEAD}",
        "examples: 6 entries, at most 5",
    ),
    "a label twice": (
        IDS + 'labels = ["a", "b", "a"]\n' + HEAD,
        "features.e.labels: labels are not distinct: 'a' is there twice",
    ),
}


@pytest.mark.parametrize(("contract", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_contract_gives_one_line(contract: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(contract, "utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        load_contract(file)
    assert caught.value.message == f"{file}: {message}"


def test_few_of_many_faults_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("".join(f"field{n} = 1\n" for n in range(30)) + NUMBERS + HEAD, "utf-8")
    with pytest.raises(ConfigInvalid, match=r"field4: there is no such field.*; and 25 more$"):
        load_contract(file)
