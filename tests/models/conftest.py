"""What the tests of models share beside the fixtures of every test."""

from pathlib import Path

import pytest


@pytest.fixture(params=["en-de/1", "shop/1"])
def version(request: pytest.FixtureRequest, root: Path) -> Path:
    """Each of the two small models."""
    return root / str(request.param)
