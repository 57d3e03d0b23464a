"""What the tests of a user's own models share."""

from collections.abc import Iterator

import pytest

from tests.models.bring.own import ASKED


@pytest.fixture(scope="module", autouse=True)
def asked() -> Iterator[None]:
    """End the service that a module's tests have asked."""
    yield
    ASKED.let_go()
