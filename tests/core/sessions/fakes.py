"""A recurrent model that is a function: whole sequences and single events, of which each row is its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.items import PredictBody, Prediction, answer_as_json
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, STEP_SIGNATURE
from seqserve.service.contract.padding import Array
from seqserve.service.core.sessions.session import Session
from seqserve.service.core.sessions.sessions import Append, Appended
from seqserve.service.core.sessions.steps import Options
from seqserve.service.core.types import Call, ModelRef, Principal
from tests.core.fakes import Core, as_files, call, running, sequence_manifest

VISITS = ModelRef("visits")
LABELS = ["visit", "search", "pay"]
LONGEST = 12
ALICE, BOB = Principal("alice"), Principal("bob")


def visits(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer by a state of two numbers; another version has another memory."""
    memory = np.float32(0.5 + spec.version / 16)
    if spec.signature == STEP_SIGNATURE:
        state = _advanced(inputs["state"], inputs["event"], inputs["minutes"], memory)
        return {**_answers(state), "state": state}
    state = np.zeros((len(inputs["event"]), 2), np.float32)
    for step in range(inputs["event"].shape[1]):
        event, minutes = inputs["event"][:, step], inputs["minutes"][:, step]
        state = np.where((event > 0)[:, None], _advanced(state, event, minutes, memory), state)
    return _answers(state)


def _advanced(state: Array, event: Array, minutes: Array, memory: np.float32) -> Array:
    return (state * memory + np.stack([event, minutes], axis=1)).astype(np.float32)


def _answers(state: Array) -> dict[str, Array]:
    first = state[:, :1]
    return {"next": np.concatenate([first, 1 - first, first * 0], axis=1), "wait": state.sum(axis=1)}


def visits_manifest(**changes: Any) -> dict[str, Any]:
    """Return a manifest that `visits` keeps, as a dict."""
    axes = ["batch", "time"]
    heads = {
        "next": {"dtype": "float32", "axes": ["batch", "label"]},
        "wait": {"dtype": "float32", "axes": ["batch"]},
    }
    state = {"state": {"dtype": "float32", "axes": ["batch", "unit"]}}
    event = {
        "event": {"dtype": "int32", "axes": ["batch"]},
        "minutes": {"dtype": "float32", "axes": ["batch"]},
    }
    request = {"sequences": [{"event": ["visit"], "minutes": [0]}], "heads": ["wait"]}
    answer = {"heads": {"wait": {"value": 1.0, "unit": "minutes", "intervals": []}}, "warnings": []}
    return sequence_manifest(
        **{
            "name": "visits",
            "signatures": {
                PREDICT_SIGNATURE: {
                    "inputs": {
                        "event": {"dtype": "int32", "axes": axes, "pad_value": 0},
                        "minutes": {"dtype": "float32", "axes": axes, "pad_value": 0.0},
                    },
                    "outputs": heads,
                },
                STEP_SIGNATURE: {"inputs": event | state, "outputs": heads | state, "state": {"state": [2]}},
            },
            "mask": "derived",
            "mask_from": "event",
            "options": {},
            "features": {
                "event": {
                    "kind": "categories",
                    "labels": LABELS,
                    "first_id": 1,
                    "unknown": "map",
                    "unknown_id": 4,
                },
                "minutes": {"kind": "elapsed", "unit": "minutes"},
            },
            "heads": {
                "next": {"kind": "softmax", "labels": LABELS, "scores": "logits"},
                "wait": {"kind": "numeric", "unit": "minutes"},
            },
            "limits": {"sequence_steps": LONGEST},
            "profile": {"ranges": {"minutes": [[0, 10]]}},
            "examples": [{"request": request, "items": [answer]}],
            **changes,
        }
    )


def renamed(**changes: Any) -> dict[str, bytes]:
    """Return the files of a version of other labels."""
    features = visits_manifest()["features"]
    other = {**features, "event": {**features["event"], "labels": ["pay", "visit", "leave"]}}
    answer = {"heads": {"wait": {"value": 2.0, "unit": "minutes", "intervals": []}}, "warnings": []}
    request = {"sequences": [{"event": ["visit"], "minutes": [0]}], "heads": ["wait"]}
    examples = [{"request": request, "items": [answer]}]
    return as_files(visits_manifest(features=other, examples=examples, **changes))


@asynccontextmanager
async def live(**options: Any) -> AsyncIterator[Core]:
    """Run core with version 1 of `visits`."""
    async with running(visits, **options) as core:
        core.backend.put("visits", 1, as_files(visits_manifest()))
        await core.catalog.refresh()
        core.backend.batches.clear()
        yield core


def by(principal: Principal = ALICE) -> Call:
    """Return a call of a principal's."""
    asked = call()
    return Call(asked.transport, asked.deadline, principal=principal)


async def create(core: Core, ref: ModelRef = VISITS, who: Principal = ALICE) -> Session:
    """Make a session."""
    return await core.gateway.create_session(ref, by(who))


def events(*labels: Any, minutes: Any = None) -> dict[str, Any]:
    """Return events, a minute apart."""
    return {"event": list(labels), "minutes": [1.0] * len(labels) if minutes is None else minutes}


async def append(
    core: Core, session: Session, first: int, features: dict[str, Any], who: Principal = ALICE, **options: Any
) -> Appended:
    """Append events."""
    return await core.gateway.append(VISITS, session.id, Append(first, features, Options(**options)), by(who))


async def predicted(core: Core, features: dict[str, Any], version: int | None = None) -> dict[str, Any]:
    """Return what `:predict` answers to a whole history."""
    answered = await core.ask(ModelRef("visits", version), PredictBody(sequences=[features]), by())
    (item,) = answered.items
    assert isinstance(item, Prediction)
    return answer_as_json(item)
