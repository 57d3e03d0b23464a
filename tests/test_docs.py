"""The pages keep up with the code."""

import re
from pathlib import Path

from seqserve.service.contract.manifest import Manifest
from seqserve.service.errors import leaves
from seqserve.service.status import http_status

DOCS = Path(__file__).parent.parent / "docs"


def test_every_reason_is_documented() -> None:
    """docs/errors.md lists each reason with code, HTTP status and docstring, in the tree's order."""
    rows = [
        f"| `{kind.reason}` | {kind.code} | {http_status(kind(''))} | {kind.__doc__} |"
        for kind in leaves()
        if kind.__module__ == "seqserve.service.errors"
    ]
    page = (DOCS / "errors.md").read_text("utf-8")
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_every_field_of_the_manifest_is_documented() -> None:
    """docs/manifest.md names each."""
    page = (DOCS / "manifest.md").read_text("utf-8")
    assert [name for name in Manifest.model_fields if f"`{name}`" not in page] == []


def test_the_tests_that_are_named_exist() -> None:
    """docs/models.md shows each answer by tests; a renamed one would be no evidence."""
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z_0-9]+)`", (DOCS / "models.md").read_text("utf-8"))
    assert len(named) > 20
    root = DOCS.parent
    assert [(file, name) for file, name in named if f"def {name}(" not in (root / file).read_text()] == []
