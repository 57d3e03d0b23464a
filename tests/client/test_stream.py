"""Lists of any length, answered while they are taken, by each client."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import count, islice
from typing import Any

import pytest

from seqserve.client import AsyncClient, Client, Prediction, ServiceError, blocking, errors
from seqserve.client.answers import Answers, ModelVersion
from seqserve.client.asking import Ask
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


async def test_a_stream_that_is_left_ends_its_requests(door: str, kind: Any) -> None:
    """Though nothing is answered, and there is time left: no thread stays, and no task."""
    threads: list[threading.Thread] = []
    async with visiting() as both, called(url(both.started, door), kind, timeout=300) as call:
        before = asyncio.all_tasks()
        gate = both.backend.gate = asyncio.Event()
        gate.set()

        def left() -> Iterator[dict[str, Any]]:
            yield from visits(range(1))
            gate.clear()
            yield from visits(range(2))
            threads.extend(working())
            raise RuntimeError("the caller has enough")

        with pytest.raises(RuntimeError, match="has enough"):
            await taken(call.client, left(), part=1)
        assert len(threads) == (2 if kind is Client else 0)
        assert await asyncio.to_thread(ended, threads)
        assert not [task for task in asyncio.all_tasks() - before if "AsyncClient" in repr(task)]


def working() -> list[threading.Thread]:
    """Return the threads that ask for parts."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("seqserve-client")]


def ended(threads: Iterable[threading.Thread]) -> bool:
    """Whether threads end long before what they ask for is given up."""
    for thread in threads:
        thread.join(20)
    return not any(thread.is_alive() for thread in threads)


class Immediate:
    """Threads that are done at once, and a door that answers at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what threads take."""

    def submit(self, work: Any, *arguments: Any) -> Future[Any]:
        """Do it now."""
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done

    def blocking(self) -> "Immediate":
        """Be a door."""
        return self

    def send(self, ask: Ask, seconds: float | None) -> Any:
        """Answer each item by nothing."""
        return Answers(ModelVersion("visits", 1, ""), tuple(Prediction({}) for _ in ask.body["sequences"]))

    def close(self) -> None:
        """Nothing is open."""

    def shutdown(self, **options: Any) -> None:
        """Nothing runs."""


class Awaited(Immediate):
    """A door that is awaited, and answers at once."""

    async def send(self, ask: Ask, seconds: float | None) -> Any:
        """As the other."""
        return super().send(ask, seconds)

    async def close(self) -> None:  # type: ignore[override]
        """Nothing is open."""


async def test_what_is_answered_goes_out_before_more_is_taken(
    door: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many parts could be asked for at once."""
    given, items = 0, []

    def taking() -> Iterator[dict[str, Any]]:
        nonlocal given
        for sequence in visits(range(8)):
            assert len(items) == given
            given += 1
            yield sequence

    monkeypatch.setattr(blocking, "ThreadPoolExecutor", Immediate)
    async with called(f"{door}://127.0.0.1:9", kind) as call:
        stream = call.client.predict_stream("visits", taking(), part=1)
        if kind is Client:
            call.client._door = call.client._doors = Immediate()
            for item in stream:
                items.append(item)
        else:
            await call.client._door.close()
            call.client._door = Awaited()
            async for item in stream:
                items.append(item)
    assert len(items) == given == 8
