"""The Session where there is no TensorFlow; what it does with one is in the backend suite."""

import sys
from pathlib import Path

import pytest

from seqserve.service import errors
from seqserve.service.backend import session
from seqserve.service.backend.base import State
from seqserve.service.backend.embedded import EmbeddedBackend


async def test_without_tensorflow_a_version_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its models are listed all the same, so that the reason can be seen."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (tmp_path / "shop" / "1").mkdir(parents=True)
    with pytest.raises(errors.BackendFailed, match=r"seqserve\[embedded\]"):
        session.load(tmp_path / "shop" / "1")
    backend = EmbeddedBackend(tmp_path, check_files=False)
    (state,) = await backend.versions("shop")
    assert state.state is State.FAILED
    assert isinstance(state.error, errors.BackendFailed)
    await backend.close()
