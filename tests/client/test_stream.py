"""Lists of any length, answered while they are taken, by each client."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import pytest

from seqserve.client import AsyncClient, Client, ServiceError, errors
from tests.client.calling import NAMES, WAYS, called, told, url
from tests.sessions import visiting

pytestmark = pytest.mark.parametrize(("door", "kind"), WAYS, ids=NAMES)


def visits(numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Yield sequences; every seventh is wrong."""
    for number in numbers:
        yield {"event": ["visit"], "minutes": [-1.0 if number % 7 == 3 else float(number % 5)]}


async def taken(client: Any, sequences: Iterable[Any], most: int | None = None, **options: Any) -> list[Any]:
    """Take so many items of a stream, then leave it."""
    if isinstance(client, Client):
        stream = client.predict_stream("visits", sequences, **options)
        items = await asyncio.to_thread(lambda: list(islice(stream, most)))
        await asyncio.to_thread(stream.close)  # type: ignore[attr-defined]
        return items
    assert isinstance(client, AsyncClient)
    items = []
    async for item in (stream := client.predict_stream("visits", sequences, **options)):
        items.append(item)
        if len(items) == most:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    return items


@pytest.mark.parametrize("part", [1, 4, 16, 1000])
async def test_a_stream_has_the_items_of_the_list(door: str, kind: Any, part: int) -> None:
    """In the same order, whatever the parts; a part in which each item fails harms no other."""
    async with visiting() as both, called(url(both.started, door), kind) as call:
        sequences = list(visits(range(40)))
        whole = await call("predict", "visits", sequences)
        streamed = await taken(call.client, iter(sequences), part=part)
        assert list(map(told, streamed)) == list(map(told, whole.items))
        places = [item.errors[0].pointer for item in streamed if isinstance(item, ServiceError)]
        assert places == [f"#/sequences/{i}/minutes/0" for i in range(40) if i % 7 == 3]


async def test_a_stream_reads_little_ahead(door: str, kind: Any) -> None:
    """Of a list without end, as many parts as are asked for at once."""
    taking = count()
    async with visiting() as both, called(url(both.started, door), kind, parallel=3) as call:
        assert len(await taken(call.client, visits(taking), 20, part=4)) == 20
        assert next(taking) <= 20 + 3 * 4


async def test_a_fault_of_the_call_ends_a_stream(door: str, kind: Any) -> None:
    """What came before has been yielded; an option or a name that is wrong is wrong at once."""
    async with visiting() as both, called(url(both.started, door), kind) as call:
        with pytest.raises(errors.UnknownHead):
            await taken(call.client, visits(count()), heads=["nope"])
        with pytest.raises(ValueError, match="at least one item, not 0"):
            await taken(call.client, visits(count()), part=0)
        assert await taken(call.client, []) == []
