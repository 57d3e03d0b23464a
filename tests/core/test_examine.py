"""How a version is examined: refused with its reason, looked at again after a passing fault, or admitted."""

import asyncio
from typing import Any

import pytest

from seqserve.service import errors
from seqserve.service.backend.base import Spec, State, Tensors
from seqserve.service.contract.bounds import FILE_BYTES
from seqserve.service.contract.digest import sha256
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Tokens
from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.core.queue import Budget
from seqserve.service.core.types import ModelRef
from tests.core.fakes import (
    as_files,
    echo,
    example,
    running,
    sequence_manifest,
    series,
    settle,
    translation_manifest,
)
from tests.core.test_catalog import TOTAL, TOTALS, answer, standings, version, weights

BROKEN: dict[str, tuple[Any, str]] = {
    "another answer": (version(2, answer=TOTAL), "GOLDEN_FAILED"),
    "an example that does not fit": (
        as_files(sequence_manifest(examples=[{"request": {"texts": ["a"]}, "items": []}])),
        "GOLDEN_FAILED",
    ),
    "an example past a limit": (
        as_files(sequence_manifest(examples=[example([1.0] * 17, 1.0)])),
        "GOLDEN_FAILED",
    ),
    "no example": (as_files(sequence_manifest(examples=[])), "GOLDEN_FAILED"),
    "an example of nothing": (
        as_files(sequence_manifest(examples=[{"request": {"sequences": []}, "items": []}])),
        "GOLDEN_FAILED",
    ),
    "an answer that no float holds": (version(2, answer=10**400), "MANIFEST_INVALID"),
    "an example that takes more than a request may": (
        as_files(
            sequence_manifest(
                examples=[example([1.0], 2.0)], buckets=[200_000], limits={"sequence_steps": 200_000}
            )
        ),
        "GOLDEN_FAILED",
    ),
    "buckets of a billion": (as_files(sequence_manifest(buckets=[10**9])), "MANIFEST_INVALID"),
    "a file past its size": (
        as_files(translation_manifest(), **{"en.model": b"\0" * (FILE_BYTES + 1)}),
        "MANIFEST_INVALID",
    ),
    "no manifest": ({}, "MANIFEST_MISSING"),
    "no manifest signature": (errors.ManifestMissing("no signature"), "MANIFEST_MISSING"),
    "no JSON": ({"manifest.json": b"{"}, "MANIFEST_INVALID"),
    "a manifest that contradicts itself": (as_files(sequence_manifest(buckets=[8, 4])), "MANIFEST_INVALID"),
    "no tokenizer": (as_files(translation_manifest()), "MANIFEST_INVALID"),
    "a file that is not a tokenizer": (
        as_files(translation_manifest(), **{"en.model": b"none"}),
        "MANIFEST_INVALID",
    ),
    "a file changed": (
        as_files(translation_manifest(files={"assets/en.model": sha256(b"a")}), **{"en.model": b"b"}),
        "FILE_CHANGED",
    ),
    "batching at the backend": (errors.BackendBatchingOn("it batches"), "BACKEND_BATCHING_ON"),
}


@pytest.mark.parametrize(("files", "reason"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_version_is_refused_with_its_reason_and_the_old_one_stays(
    files: Any, reason: str
) -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        core.backend.put("totals", 2, files)
        await core.catalog.refresh()
        assert standings(core) == {2: reason, 1: "ROUTABLE"}
        assert await answer(core) == (1, TOTAL)
        with pytest.raises(errors.FailedPrecondition) as caught:
            await core.catalog.resolve(ModelRef("totals", version=2))
        assert caught.value.reason == reason
        assert series(core.metrics, "model_version_refused") == {("totals", "2", reason): 1}
        assert series(core.metrics, "model_ready") == {("totals",): 1}
        del core.backend.published["totals"][1]
        await core.catalog.refresh()
        with pytest.raises(errors.NotReady, match=reason):
            await core.catalog.resolve(TOTALS)
        assert series(core.metrics, "model_ready") == {("totals",): 0}
        assert core.gateway.is_ready  # it was, once


def both(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer for versions of both tasks."""
    return (weights if spec.signature == PREDICT_SIGNATURE else echo)(spec, inputs)


async def test_a_version_for_another_task_never_answers(tokenizer: bytes) -> None:
    """Not while it is examined either; what it refuses and shows is in the metrics."""
    async with running(both) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        core.backend.put("totals", 2, as_files(translation_manifest(), **{"en.model": tokenizer}))
        await core.catalog.refresh()
        assert standings(core) == {2: "TASK_DIFFERS", 1: "ROUTABLE"}
        assert await answer(core) == (1, TOTAL)
        assert series(core.metrics, "model_version_refused") == {("totals", "2", "TASK_DIFFERS"): 1}
        assert {labels[:2] for labels in series(core.metrics, "model_version_info")} == {("totals", "1")}


@pytest.mark.parametrize("wrong", [1, 2])
async def test_a_start_finds_the_version_in_the_wrong_folder(wrong: int, tokenizer: bytes) -> None:
    """Older or newer: its manifest names another model, and the metrics end as if it had never passed."""
    async with running(both) as core:
        files = as_files(translation_manifest(name="echo"), **{"en.model": tokenizer})
        core.backend.put("totals", wrong, files)
        core.backend.put("totals", 3 - wrong, version(3 - wrong))
        await core.catalog.refresh()
        assert standings(core) == {wrong: "TASK_DIFFERS", 3 - wrong: "ROUTABLE"}
        right = str(3 - wrong)
        assert {labels[:2] for labels in series(core.metrics, "model_version_info")} == {("totals", right)}


@pytest.mark.parametrize(
    ("warnings", "standing"),
    [
        ([], "ROUTABLE"),
        (["HIGH_UNKNOWN", "REPETITION", "LOW_COVERAGE"], "ROUTABLE"),
        (["TRUNCATED"], "GOLDEN_FAILED"),
    ],
)
async def test_judgements_of_another_release_refuse_no_version(
    warnings: list[str], standing: str, tokenizer: bytes
) -> None:
    """A warning by a threshold is this program's; any other is part of the version's answer."""
    async with running(echo) as core:
        pieces = len(SentencePieces(tokenizer, Tokens(tokenizer="en.model")).encode("two dogs"))
        item = {"text": "two dogs", "score": -float(pieces), "warnings": warnings}
        manifest = translation_manifest(examples=[{"request": {"texts": ["two dogs"]}, "items": [item]}])
        core.backend.put("echo", 1, as_files(manifest, **{"en.model": tokenizer}))
        await core.catalog.refresh()
        assert standings(core, "echo") == {1: standing}


async def test_a_version_under_another_name_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1, name="sums"))
        core.backend.put("totals", 2, version(2))
        await core.catalog.refresh()
        assert standings(core) == {2: "ROUTABLE", 1: "ROUTABLE"}
    admitted = [r.fields for r in caplog.records if r.getMessage() == "version admitted"]  # type: ignore[attr-defined]
    assert [fields.get("exported_name") for fields in admitted] == ["sums", None]


async def test_a_load_that_failed_at_the_backend_is_refused_until_it_is_tried_again() -> None:
    async with running(weights) as core:
        fault = errors.BackendFailed("the SavedModel cannot be loaded")
        core.backend.put("totals", 1, version(1), state=State.FAILED, error=fault)
        await core.catalog.refresh()
        assert standings(core) == {1: "BACKEND_FAILED"}
        core.backend.put("totals", 1, version(1), state=State.LOADING)
        await core.catalog.refresh()
        assert standings(core) == {1: "LOADING"}
        assert series(core.metrics, "model_version_refused") == {}
        with pytest.raises(errors.NotReady):
            await core.catalog.resolve(ModelRef("totals", version=1))
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        assert standings(core) == {1: "ROUTABLE"}


TRANSIENT = [
    errors.BackendUnavailable("gone"),
    errors.DeadlineExceeded("late"),
    errors.VersionNotFound("unloaded"),
    errors.QueueFull("full"),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: fault.reason)
@pytest.mark.parametrize("where", ["manifest", "predict"])
async def test_a_passing_fault_is_no_refusal(fault: errors.SeqserveError, where: str) -> None:
    down = True

    def flaky(spec: Spec, inputs: Tensors) -> dict[str, Array]:
        if down:
            raise fault
        return weights(spec, inputs)

    async with running(flaky) as core:
        core.backend.put("totals", 1, fault if where == "manifest" else version(1))
        await core.catalog.refresh()
        assert standings(core) == {1: "LOADING"}
        assert not core.gateway.is_ready
        down = False
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        assert standings(core) == {1: "ROUTABLE"}


async def test_a_full_queue_during_admission_is_no_refusal() -> None:
    async with running(weights, budget=Budget(4, 16, 8), slots=1) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        core.backend.gates[1] = asyncio.Event()
        held = [asyncio.create_task(answer(core)) for _ in range(3)]  # one computes, two fill the queue
        for _ in held:
            await settle()
        held += [asyncio.create_task(answer(core)) for _ in range(2)]
        await settle()
        core.backend.put("totals", 2, version(2))
        await core.catalog.refresh()
        assert standings(core) == {2: "LOADING", 1: "ROUTABLE"}
        core.backend.gates[1].set()
        await asyncio.gather(*held, return_exceptions=True)
        await core.catalog.refresh()
        assert standings(core) == {2: "ROUTABLE", 1: "ROUTABLE"}


async def test_a_hanging_example_is_given_up_and_tried_again() -> None:
    async with running(weights) as core:
        core.backend.gates[1] = asyncio.Event()
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        assert standings(core) == {1: "LOADING"}
        core.backend.gates[1].set()
        await core.catalog.refresh()
        assert standings(core) == {1: "ROUTABLE"}
