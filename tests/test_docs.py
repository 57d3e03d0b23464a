"""The pages keep up with the code."""

import re
from pathlib import Path
from typing import get_args

import pytest

from seqserve.service.contract.manifest import Manifest
from seqserve.service.errors import leaves
from seqserve.service.settings import Settings
from seqserve.service.status import http_status

DOCS = Path(__file__).parent.parent / "docs"


def test_every_reason_is_documented() -> None:
    """docs/errors.md lists each reason with code, HTTP status and docstring, in the tree's order."""
    rows = [
        f"| `{kind.reason}` | {kind.code} | {http_status(kind(''))} | {kind.__doc__} |"
        for kind in leaves()
        if kind.__module__.startswith("seqserve.service.errors")
    ]
    page = (DOCS / "errors.md").read_text("utf-8")
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_every_field_of_the_manifest_is_documented() -> None:
    """docs/manifest.md names each."""
    page = (DOCS / "manifest.md").read_text("utf-8")
    assert [name for name in Manifest.model_fields if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", ["docs/models.md", "SECURITY.md"])
def test_the_tests_that_are_named_exist(page: str) -> None:
    """Each answer, and each promise, is shown by tests; a renamed one would be no evidence."""
    root = DOCS.parent
    named = re.findall(r"`(tests/[a-z_/0-9]+\.py)::(test_[a-z_0-9]+)`", (root / page).read_text("utf-8"))
    assert len(named) > 20
    assert [(file, name) for file, name in named if f"def {name}(" not in (root / file).read_text()] == []


NO_LIMITS = {"rest_port", "grpc_port", "ops_port", "access_log", "slots", "lame_duck_seconds"} | {
    "poll_seconds",
    "ready_grace_seconds",
    "drain_seconds",
}
"""Settings that are numbers and refuse nobody."""
NOT_COUNTED = {"", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED by grpc itself"}
"""Reasons of limits that count nothing: one cuts short, and what grpc refuses nobody here sees."""


def test_every_limit_is_documented() -> None:
    """docs/limits.md has each number among the settings, with its default, and a reason that there is."""
    page = (DOCS / "limits.md").read_text("utf-8")
    cells = [[cell.strip(" `") for cell in line.split("|")] for line in page.splitlines() if "| `" in line]
    rows = {name: (default, reason.partition(" ")[0]) for _, name, default, _, reason, *_ in cells}
    assert len(rows) == len(cells)
    numbers = {
        name: field.default
        for name, field in Settings.model_fields.items()
        if {int, float} & {field.annotation, *get_args(field.annotation)} and name not in NO_LIMITS
    }
    assert {name: float(default) for name, (default, _) in rows.items()} == numbers
    reasons = {kind.reason for kind in leaves()} | {"", "RESOURCE_EXHAUSTED"}
    assert {reason for _, reason in rows.values()} <= reasons


def test_every_limit_that_refuses_is_counted() -> None:
    """The errors of each row with a reason of its own name the setting, and no other."""
    page = (DOCS / "limits.md").read_text("utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")] for line in page.splitlines() if "| `" in line]
    refusing = {name for _, name, _, _, reason, *_ in rows if reason not in NOT_COUNTED}
    sources = "".join(path.read_text("utf-8") for path in (DOCS.parent / "service").rglob("*.py"))
    assert set(re.findall(r'limit="(\w+)"', sources)) <= refusing
    assert {name for name in refusing if sources.count(f'"{name}"') == 0} == set()
