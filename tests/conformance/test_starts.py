"""What ends a start: servers that are started and do not come up."""

import os
from pathlib import Path

import pytest

from tests.conformance.modules import shorten, write_version
from tests.conformance.roots import COMMAND, CONFIG, FLAGS
from tests.tfserving.process import NotStarted, serving
from tests.tfserving.reload import config_file

START_FAILED = 255


def refused_start(config: Path | None = None, **flags: object) -> str:
    """Start a server that does not come up; return what it says."""
    with pytest.raises(NotStarted) as caught, serving(config, os.environ.get(COMMAND, ""), **FLAGS | flags):
        raise AssertionError("it started")
    assert caught.value.code == START_FAILED
    assert "Failed to start server. Error: " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bad", [1, 2], ids=["oldest", "newest"])
def test_a_version_that_cannot_be_loaded_ends_the_start(tmp_path: Path, bad: int) -> None:
    """`latest 2` with one good version and one that is cut short: no model is served, a good one neither."""
    for model, numbers in (("good", (1,)), ("two", (1, 2))):
        for number in numbers:
            write_version(tmp_path / model, number)
    shorten(tmp_path / "two" / str(bad))
    config = tmp_path / CONFIG
    config.write_text(str(config_file({name: tmp_path / name for name in ("good", "two")})))
    text = refused_start(config)
    assert "1 servable(s) did not become available: {" in text
    assert f"{{name: two version: {bad}}} due to error: " in text


def test_labels_need_their_flag_at_the_start(model_root: Path) -> None:
    """A first configuration cannot label a version that is not loaded yet."""
    text = refused_start(model_root / CONFIG, allow_version_labels_for_unavailable_models=False)
    assert "of model demo, which is not currently available for inference" in text


def test_a_scalar_in_a_warmup_ends_the_start_with_batching_on(tmp_path: Path) -> None:
    """Warm-up records run through the batching too, which refuses an input without rows."""
    write_version(tmp_path / "demo", 1, warmup="slow")
    text = refused_start(model_name="demo", model_base_path=tmp_path / "demo", enable_batching=True)
    assert "Batching Run() input tensors must have at least one dimension" in text
