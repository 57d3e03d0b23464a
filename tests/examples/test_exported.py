"""The translators of docs/bring.md, exported and served: answers are those of the scripts' own loops."""

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.doors import Both, both_doors, translate
from tests.tfserving.reload import ModelServer
from tests.translators import FOLDER, STYLES, Style, expected

ITEMS = 8
pytestmark = pytest.mark.slow


async def test_many_callers_get_what_the_scripts_loops_give(
    translators: Path, model_server: ModelServer
) -> None:
    """200 texts of each, of mixed lengths, over both backends, at both doors at once: batched together."""
    wrong: dict[str, list[Any]] = {}
    async with both_doors(translators) as embedded, both_doors(translators, model_server) as served:
        for style in STYLES:
            pairs = expected(translators, style)
            assert len(pairs) == 200
            calls = [
                call(both, style, pairs[at : at + ITEMS], door)
                for at in range(0, len(pairs), ITEMS)
                for both in (embedded, served)
                for door in ("rest", "grpc")
            ]
            faults = [fault for some in await asyncio.gather(*calls) for fault in some]
            wrong |= {style.name: faults[:3]} if faults else {}
    assert not wrong


async def call(both: Both, style: Style, pairs: list[tuple[str, str]], door: str) -> list[Any]:
    """Return where one call's translations are not as expected."""
    row = translate(model=style.name, texts=[source for source, _ in pairs])
    answer, _ = await (both.by_rest(row) if door == "rest" else both.by_grpc(row))
    if isinstance(answer, str):
        return [(door, answer)]
    got = [item.get("text", item) for item in answer["translations"]]
    return [
        (door, source, text, wanted)
        for (source, wanted), text in zip(pairs, got, strict=True)
        if text != wanted.strip()
    ]


async def test_the_calls_of_the_page_are_answered(translators: Path) -> None:
    """Each curl as it stands there, with an answer for each text."""
    async with both_doors(translators) as both:
        for style in STYLES:
            path, body = style.call()
            response = await both.rest.post(path, json=body)
            assert response.status_code == 200, response.text
            items = response.json()["translations"]
            assert [sorted({"text", "error"} & item.keys()) for item in items] == [["text"]] * len(
                body["texts"]
            )


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.script)
def test_a_contract_says_what_its_script_expects(style: Style) -> None:
    """Each has examples; only those whose translator makes no mistakes say what it gives for them."""
    contract = tomllib.loads((FOLDER / f"{style.script}.toml").read_text("utf-8"))
    assert contract["name"] == style.name
    sure = style.script in ("attention", "strings")
    says = [bool(example.get("expected")) for example in contract["examples"]]
    assert says == [sure] * len(says)
