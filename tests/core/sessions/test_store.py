"""The memory that sessions are kept in: compare and set, bounds in bytes and age, and who loses what."""

from prometheus_client import CollectorRegistry

from seqserve.service.core.sessions.store import OVERHEAD, Kept, MemoryStore
from seqserve.service.metrics import Metrics
from tests.core.fakes import Clock, series

SECONDS = 60.0
DATA = b"x" * 100


def made(places: int = 3) -> tuple[MemoryStore, Clock, Metrics]:
    """Return a store with room for so many sessions."""
    clock, metrics = Clock(), Metrics(CollectorRegistry())
    return MemoryStore(places * (len(DATA) + OVERHEAD), SECONDS, metrics, clock), clock, metrics


async def put(
    store: MemoryStore, id: str, owner: str = "a", number: int = 0, expected: int | None = None
) -> bool:
    return await store.put(id, owner, Kept(number, DATA), expected)


async def there(store: MemoryStore, *ids: str) -> list[str]:
    return [id for id in ids if await store.get(id) is not None]


async def test_what_is_not_as_it_was_is_not_replaced() -> None:
    store, _, _ = made()
    assert await put(store, "s")
    assert not await put(store, "s")
    assert not await put(store, "s", number=2, expected=1)
    assert not await put(store, "other", number=2, expected=1)
    assert await put(store, "s", number=3, expected=0)
    assert await store.get("s") == Kept(3, DATA)
    await store.delete("s")
    assert not await put(store, "s", number=4, expected=3)


async def test_what_was_used_longest_ago_goes_where_room_ends() -> None:
    store, _, metrics = made()
    for id in "xyz":
        await put(store, id)
    await store.get("x")
    await put(store, "new")
    assert await there(store, "x", "y", "z", "new") == ["x", "z", "new"]
    assert series(metrics, "sessions_dropped_total") == {("room",): 1}
    assert series(metrics, "sessions") == {(): 3}
    assert series(metrics, "session_bytes") == {(): 3 * (len(DATA) + OVERHEAD)}


async def test_who_makes_many_takes_none_of_others() -> None:
    store, _, _ = made()
    await put(store, "mine", "a")
    for number in range(9):
        await put(store, str(number), "b")
    assert await there(store, "mine", *map(str, range(9))) == ["mine", "7", "8"]
    store, _, _ = made()
    await put(store, "mine", "a")
    await store.put("large", "b", Kept(0, DATA * 13), None)
    assert await there(store, "mine", "large") == ["large"]


async def test_what_has_not_changed_for_long_is_forgotten() -> None:
    store, clock, metrics = made()
    await put(store, "old")
    await put(store, "changed")
    clock.now += SECONDS - 1
    await put(store, "changed", number=1, expected=0)
    clock.now += 1
    assert await there(store, "old", "changed") == ["changed"]
    assert series(metrics, "sessions_dropped_total") == {("age",): 1}
