"""The server under test: TensorFlow Serving at SEQSERVE_TEST_TFSERVING, else the test server.

Other than there, SEQSERVE_TEST_TFSERVING_ROOT is its model root, as `python -m tests.conformance` made it.
SEQSERVE_TEST_MODELS may name more models there, whose golden examples are run (test_goldens.py).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.conformance.calls import Client
from tests.conformance.roots import ADDRESS, FLAGS, ROOT, prepare
from tests.tfserving.process import serving

collect_ignore = ["test_flags.py"] if ADDRESS in os.environ else []  # its server has the flags that it has
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server watches and the tests write."""
    if ADDRESS in os.environ:
        return Path(os.environ[ROOT])
    root = tmp_path_factory.mktemp("conformance")
    prepare(root)
    return root


@pytest.fixture(scope="session")
def address(model_root: Path) -> Iterator[str]:
    """Where the server listens."""
    if ADDRESS in os.environ:
        yield os.environ[ADDRESS]
        return
    with serving(model_root / "models.config", **FLAGS) as server:
        yield server.address


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Client]:
    """Calls to it."""
    with grpc.insecure_channel(address, UNLIMITED) as channel:
        yield Client(channel)
