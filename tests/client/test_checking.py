"""What is wrong with what a caller gives is said at once, alike by each client at each door."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from seqserve.client import Prediction, ServiceError, errors
from tests.client.calling import NAMES, WAYS, called, url
from tests.doors import Both
from tests.sessions import visiting

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize(("door", "kind"), WAYS, ids=NAMES),
]
GOOD = {"event": ["visit"], "minutes": [1]}
HALF = b"\\ud800".decode("unicode_escape")
"""Half of a surrogate pair, which no UTF-8 has."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> Any:
    """A service that all are asked of."""
    async with visiting() as both:
        yield both


def visit(event: Any = ("visit",), minutes: Any = (1,)) -> dict[str, Any]:
    """Return a sequence."""
    return {"event": event, "minutes": minutes}


@pytest.mark.parametrize(
    ("wrong", "fault", "pointer"),
    [
        (visit(minutes=["a"]), errors.WrongType, "/minutes/0"),
        (visit(minutes=[True]), errors.WrongType, "/minutes/0"),
        (visit(minutes=[{1}]), errors.WrongType, "/minutes/0"),
        (visit(minutes=np.array([1.0, 2.0])), errors.WrongType, "/minutes"),
        (visit(minutes=[float("nan")]), errors.NotFinite, "/minutes/0"),
        (visit(minutes=[np.float32("inf")]), errors.NotFinite, "/minutes/0"),
        (visit(minutes={"timestamps": ["yesterday"]}), errors.WrongType, "/minutes/timestamps/0"),
        (visit(minutes={"stamps": []}), errors.WrongType, "/minutes"),
        (visit(event=["visit", 2.5], minutes=[1, 2]), errors.WrongType, "/event/1"),
        (visit(event=[HALF]), errors.WrongType, "/event/0"),
        ({**GOOD, "a/ b": object()}, errors.WrongType, "/a~1%20b"),
        ({**GOOD, HALF: [1]}, errors.WrongType, ""),
        (["visit"], errors.WrongType, ""),
        ("visit", errors.WrongType, ""),
        (None, errors.WrongType, ""),
    ],
)
async def test_what_cannot_be_sent_is_its_items_fault(
    both: Both, door: str, kind: Any, wrong: Any, fault: type[ServiceError], pointer: str
) -> None:
    """It fails in its place, and the others are answered; alone it fails the call; in an append too."""
    async with called(url(both.started, door), kind) as call:
        answers = await call("predict", "visits", [GOOD, wrong, GOOD])
        assert [type(item) for item in answers.items] == [Prediction, fault, Prediction]
        assert [one.pointer for one in answers.items[1].errors] == [f"#/sequences/1{pointer}"]
        alone = await call("predict", "visits", [wrong])
        assert (type(alone), alone.errors[0].pointer) == (fault, f"#/sequences/0{pointer}")


async def test_a_sequence_may_be_any_mapping(both: Both, door: str, kind: Any) -> None:
    """It need not be a dict."""
    async with called(url(both.started, door), kind) as call:
        first, second = (await call("predict", "visits", [GOOD, MappingProxyType(GOOD)])).items
        assert first == second


@pytest.mark.parametrize("wrong", [3, None, b"a", ["a"], HALF])
async def test_a_text_that_is_none_is_its_items_fault(both: Both, door: str, kind: Any, wrong: Any) -> None:
    """Alone it fails the call, before anybody is asked."""
    async with called(url(both.started, door), kind) as call:
        came = await call("translate", "nope", [wrong])
        assert isinstance(came, errors.WrongType)
        assert [one.pointer for one in came.errors] == ["#/texts/0"]


async def test_numbers_of_other_libraries_are_numbers(both: Both, door: str, kind: Any) -> None:
    """As they are in Python; a whole number among labels is a label."""
    given = [
        visit(minutes=[number]) for number in (1.5, np.float32(1.5), np.float64(1.5), Decimal("1.5"))
    ] + [visit(event=["visit", 3], minutes=[0, np.int64(1)]), visit(event=["visit", "3"], minutes=[0, 1])]
    async with called(url(both.started, door), kind) as call:
        items = (await call("predict", "visits", given, top_k=np.int64(2))).items
        assert items[0] == items[1] == items[2] == items[3]
        assert items[4] == items[5]


LOW, HIGH = -(2**31), 2**31 - 1


@pytest.mark.parametrize(
    ("method", "option", "told"),
    [
        ("predict", {"top_k": "x"}, "WRONG_TYPE: top_k is 'x', not a whole number"),
        ("predict", {"top_k": True}, "WRONG_TYPE: top_k is True, not a whole number"),
        ("predict", {"seed": 1.5}, "WRONG_TYPE: seed is 1.5, not a whole number"),
        ("predict", {"heads": "wait"}, "WRONG_TYPE: heads is 'wait', not a list of texts"),
        ("predict", {"heads": ["wait", 1]}, "WRONG_TYPE: heads.1 is 1, not a text"),
        ("predict", {"version": "1"}, "WRONG_TYPE: version is '1', not a whole number"),
        (
            "predict",
            {"top_k": 2**31},
            f"OPTION_OUT_OF_RANGE: top_k is {2**31}; it must be between {LOW} and {HIGH}",
        ),
        ("translate", {"beam_size": "four"}, "WRONG_TYPE: beam_size is 'four', not a whole number"),
        ("translate", {"length_penalty": "1"}, "WRONG_TYPE: length_penalty is '1', not a number"),
        (
            "translate",
            {"length_penalty": float("nan")},
            "OPTION_OUT_OF_RANGE: length_penalty is nan; it must be finite",
        ),
        ("translate", {"alignment": 1}, "WRONG_TYPE: alignment is 1, not True or False"),
        ("translate", {"sampling": 3}, "WRONG_TYPE: sampling is 3, not a mapping"),
        ("translate", {"sampling": {"top_k": "x"}}, "WRONG_TYPE: sampling.top_k is 'x', not a whole number"),
        (
            "translate",
            {"sampling": {"k": 1}},
            "WRONG_TYPE: no option sampling.k; there are temperature, top_k, seed",
        ),
    ],
)
async def test_a_wrong_option_is_told_once(
    both: Both, door: str, kind: Any, method: str, option: Mapping[str, Any], told: str
) -> None:
    """Before anybody is asked, whatever the list; field and value are named."""
    async with called(url(both.started, door), kind) as call:
        came = await call(method, "nope", ["a"] * 3000, **option)
        assert str(came) == told
        assert len(came.errors) == 1


async def test_what_no_method_has_is_a_fault_of_the_program(both: Both, door: str, kind: Any) -> None:
    """A name that is misspelt, or one text where a list is wanted, which Python reads letter by letter."""
    async with called(url(both.started, door), kind) as call:
        with pytest.raises(TypeError, match=r"no option 'beams'; there are version, .*beam_size"):
            await call("translate", "m", ["a"], beams=4)
        with pytest.raises(TypeError, match=r"no option 'top_k'; there are version, label, timeout$"):
            await call("session", "visits", top_k=4)
        for method in ("translate", "translate_stream"):
            with pytest.raises(TypeError, match=r"texts is a list; for one, \['hello'\]"):
                await _asked(call.client, method, "hello")
        with pytest.raises(TypeError, match="sequences is a list"):
            await call("predict", "visits", GOOD)


async def _asked(client: Any, method: str, given: str) -> None:
    came = getattr(client, method)("m", given)
    if not isinstance(came, Iterator) and hasattr(came, "__await__"):
        await came
