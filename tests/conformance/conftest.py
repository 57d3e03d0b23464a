"""The server under test: the test server, or TensorFlow Serving.

SEQSERVE_TEST_TFSERVING_COMMAND starts one here (`tensorflow_model_server`); it is given flags, and sees the
files that the tests write. SEQSERVE_TEST_TFSERVING is the address of one that runs; then
SEQSERVE_TEST_TFSERVING_ROOT is its model root, as `python -m tests.conformance` made it, SEQSERVE_TEST_MODELS
may name more models there, whose golden examples are run (test_goldens.py), and test_flags.py, which starts
servers of its own, is run only with a command.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.conformance.calls import Client
from tests.conformance.roots import ADDRESS, COMMAND, FLAGS, ROOT, prepare
from tests.tfserving.process import serving
from tests.tfserving.reload import ModelServer, config_file

WITHOUT_FLAGS = ADDRESS in os.environ and COMMAND not in os.environ
collect_ignore = ["test_flags.py", "test_starts.py"] if WITHOUT_FLAGS else []
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
    with serving(model_root / "models.config", os.environ.get(COMMAND, ""), **FLAGS) as server:
        yield server.address


if COMMAND in os.environ:

    @pytest.fixture(scope="session")
    def model_server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
        """In place of the test server, for the golden examples."""
        path = tmp_path_factory.mktemp("config") / "models.config"
        path.write_text(str(config_file({"shop": root / "shop"})))
        with serving(path, os.environ[COMMAND]) as server:
            yield ModelServer(server.address, root / "shop")


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Client]:
    """Calls to it."""
    with grpc.insecure_channel(address, UNLIMITED) as channel:
        yield Client(channel)
