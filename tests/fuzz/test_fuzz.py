"""A bounded run of `make fuzz`, and that it finds what is there to be found."""

from typing import Any

import pytest

from seqserve.service.core.gateway import Gateway
from tests.fuzz import inprocess, sockets
from tests.fuzz.attack import attack
from tests.fuzz.findings import Findings
from tests.fuzz.inprocess import POLITE_ANSWER

IN_PROCESS, BY_SOCKETS = 4000, 1000


async def test_no_input_does_harm() -> None:
    findings = Findings()
    await attack(inprocess.trials, IN_PROCESS, 1, findings)
    assert findings.lines() == []


async def test_no_input_does_harm_by_sockets() -> None:
    findings = Findings()
    await attack(sockets.trials, BY_SOCKETS, 1, findings, together=16)
    assert findings.lines() == []


@pytest.mark.parametrize(
    ("ground", "together", "kinds"),
    [
        (inprocess.trials, 1, {"REST answered 500 UNEXPECTED", "gRPC answered INTERNAL UNEXPECTED"}),
        (sockets.trials, 16, {"HTTP answered 500 UNEXPECTED", "gRPC answered INTERNAL"}),
    ],
)
async def test_a_fault_is_found(
    ground: Any, together: int, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that fails now and then, and answers one caller with another's answer."""
    answer, others = Gateway.answer, []

    async def faulty(self: Gateway, *args: Any) -> Any:
        answered = await answer(self, *args)
        if answered.model == "echo":
            raise ZeroDivisionError
        if answered.model == "totals" and f"={POLITE_ANSWER}" not in repr(answered):
            others.append(answered)
        return others[-1] if answered.model == "totals" and others else answered

    monkeypatch.setattr(Gateway, "answer", faulty)
    findings = Findings()
    await attack(ground, 1000, 1, findings, together)
    assert findings.by_kind.keys() >= kinds
    assert any(kind.startswith("a polite call") for kind in findings.by_kind)
