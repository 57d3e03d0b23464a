"""Failed loads that a model server goes on listing: which are dropped, and what the others say of that."""

from pathlib import Path

import pytest

from seqserve.service import errors
from seqserve.service.backend.base import State, VersionState
from seqserve.service.backend.failed_loads import FailedLoads
from seqserve.service.backend.model_config import ModelConfigFile
from seqserve.tfserving.predict_pb2 import ModelVersionStatus
from tests.backend.rig import Code, backend
from tests.backend.wire import Refuses, Script, server

FAULT = errors.BackendFailed("the model server could not load it; its log has the reason")


def failed(number: int) -> VersionState:
    """A version that the server could not load."""
    return VersionState(number, State.FAILED, FAULT, has_ended=True)


def states(available: list[int], ended: list[int], loading: tuple[int, ...] = ()) -> list[VersionState]:
    """A model's versions, newest first."""
    made = [VersionState(number, State.AVAILABLE, stamp=number) for number in available]
    made += [failed(number) for number in ended]
    made += [VersionState(number, State.LOADING) for number in loading]
    return sorted(made, key=lambda state: state.version, reverse=True)


async def kept(loads: FailedLoads, given: list[VersionState], model: str = "m") -> list[int]:
    """The numbers that are left."""
    return [state.version for state in await loads.without_gone(model, given)]


async def message(loads: FailedLoads, number: int) -> str:
    """What a failed load says."""
    (state,) = await loads.without_gone("m", [failed(number)])
    assert state.error is not None
    return state.error.message


def configured(folder: Path, policy: str, name: str = "m") -> ModelConfigFile:
    """A model config file with a policy, as the server's container sees the models."""
    path = folder / "models.config"
    text = f'name: "{name}" base_path: "/elsewhere/m" model_version_policy {{ {policy} }}'
    path.write_text(f"model_config_list {{ config {{ {text} }} }}")
    return ModelConfigFile(path)


async def test_one_whose_directory_is_gone_is_dropped(tmp_path: Path) -> None:
    """Looked for under the last part of base_path; other versions are none of its business."""
    for number in (1, 2, 3):
        (tmp_path / "models" / "m" / str(number)).mkdir(parents=True)
    for config in (None, configured(tmp_path, "all {}")):
        loads = FailedLoads(config, tmp_path / "models")
        assert await kept(loads, states([1], [2, 3, 4])) == [3, 2, 1]
        assert await kept(loads, states([9], [])) == [9]
        assert await message(loads, 3) == FAULT.message


@pytest.mark.parametrize("root", [None, "nowhere", "file"])
async def test_one_whose_directory_cannot_be_seen_says_so_and_stays(root: str | None, tmp_path: Path) -> None:
    """No folder of that model in sight proves nothing about a version."""
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "m").touch()
    loads = FailedLoads(None, tmp_path / root if root else None)
    assert await kept(loads, states([1], [4])) == [4, 1]
    assert (
        "its directory cannot be seen from here, so it is listed until 2 newer can be run"
        in await message(loads, 4)
    )


@pytest.mark.parametrize(
    ("policy", "given", "wanted"),
    [
        ("latest { num_versions: 2 }", states([5], [4]), [5, 4]),
        ("latest { num_versions: 2 }", states([5, 6], [4]), [6, 5]),
        ("latest { num_versions: 2 }", states([5], [4], loading=(6,)), [6, 5, 4]),
        ("latest { num_versions: 2 }", states([3, 5], [4, 6]), [6, 5, 4, 3]),
        ("latest { num_versions: 1 }", states([5], [4]), [5]),
        ("latest { num_versions: 3 }", states([5, 6], [4]), [6, 5, 4]),
        ("all {}", states([5, 6, 7, 8], [4]), [8, 7, 6, 5, 4]),
        ("specific { versions: 4 versions: 5 }", states([5], [4]), [5, 4]),
        ("specific { versions: 5 }", states([5], [4]), [5]),
    ],
)
async def test_one_is_dropped_when_the_policy_keeps_others_in_its_place(
    policy: str, given: list[VersionState], wanted: list[int], tmp_path: Path
) -> None:
    """Only what is available counts; where the directory can be seen too, although it is still there."""
    (tmp_path / "root" / "m" / "4").mkdir(parents=True)
    (tmp_path / "root" / "m" / "6").mkdir()
    for root in (None, tmp_path / "root"):
        assert await kept(FailedLoads(configured(tmp_path, policy), root), given) == wanted
    others = FailedLoads(configured(tmp_path, policy, name="other"))
    assert await kept(others, states([5, 6], [4])) == [6, 5]  # as where there is no file


async def test_a_version_that_is_available_but_cannot_be_examined_counts_as_available() -> None:
    """It takes one of the places that the policy gives."""
    bare = VersionState(5, State.FAILED, errors.ManifestMissing("version 5 carries no manifest.json"))
    assert await kept(FailedLoads(), [*states([6], []), bare, failed(4)]) == [6, 5]


async def test_one_address_that_could_load_it_is_enough(tmp_path: Path) -> None:
    """It is dropped only where no address has it or is still about to load it."""
    ended = {2: (ModelVersionStatus.END, 11)}
    bare = Refuses(Code.FAILED_PRECONDITION, 'Serving signature key "manifest" not found.')
    (tmp_path / "m" / "1").mkdir(parents=True)
    loads = FailedLoads(None, tmp_path)
    fine = Script(manifests={1: b"one", 2: b"two"})
    odd, slow = Script(manifests={1: b"one", 2: bare}), Script(states={2: (ModelVersionStatus.LOADING, 0)})
    for script, wanted in ((Script(states=ended), [1]), (fine, [2, 1]), (odd, [2, 1]), (slow, [2, 1])):
        async with (
            server(Script(states=ended)) as a,
            server(script) as b,
            backend(a, b, failed_loads=loads) as tfs,
        ):
            assert [state.version for state in await tfs.versions("m")] == wanted
