"""The example of strings in, strings out: exported by its contract, and served as the SavedModel answers."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqserve.models.check import check_version
from seqserve.models.check.pipeline import Server
from seqserve.models.cli.shipping import export_own
from tests.doors import translate
from tests.examples.test_translators import expected
from tests.models.bring.own import ASKED, called
from tests.tfserving.reload import ModelServer, config_file
from tests.translators import FOLDER

TINY = ("--pairs", "1000", "--epochs", "1")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]


@pytest.fixture(autouse=True)
def asked() -> Iterator[None]:
    """End the service that the test has asked."""
    yield
    ASKED.let_go()


def test_it_is_served_with_operations_of_tensorflow_text(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its own answers come back, by both backends and both doors; what it cannot do is refused."""
    monkeypatch.syspath_prepend(FOLDER)
    script, folder = importlib.import_module("strings"), tmp_path / "strings"
    script.main([*TINY, "--tensorflow-text", "--out", str(folder)])
    contract = (FOLDER / "strings.toml").read_text("utf-8")
    toml = tmp_path / "strings.toml"
    toml.write_text(re.sub(r"(?m)^expected.*\n", "", contract), "utf-8")  # it was trained for longer
    version = export_own(folder, toml, tmp_path / "models", None, [], False, folder / "expected.jsonl")
    texts, wanted = expected(folder)
    row = translate(texts=texts[:8], model="dates-strings")
    steered = translate(texts=texts[:1], model="dates-strings", beam_size=4)
    for server in (None, model_server):
        for answer, _ in called(version, row, server):
            items = answer["translations"]
            assert [item.get("text", "") for item in items] == wanted[:8]
            assert not any({"score", "alternatives"} & set(item) for item in items)
        assert called(version, steered, server) == [("OPTION_OUT_OF_RANGE", "INVALID_ARGUMENT")] * 2
    model_server.serve(config_file({"dates-strings": version.parent}))
    check_version(version, Server(model_server.address))
