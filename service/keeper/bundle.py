"""How long a checkpoint's data files have to be: what its index says.

`variables.index` is a LevelDB table (https://github.com/google/leveldb/blob/main/doc/table_format.md) of one
header and an entry for each tensor (tensorflow/core/protobuf/tensor_bundle.proto), not compressed.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from seqserve.service.contract.wire import fields

FOOTER_BYTES, MAGIC = 48, bytes.fromhex("57fb808b247547db")
NUM_SHARDS = 1  # in the header
MOST_SHARDS = 99_999  # their names have five digits
SHARD, OFFSET, SIZE = 3, 4, 5  # in an entry


def data_sizes(index: Path) -> Mapping[str, int]:
    """Return the least size in bytes of each data file beside the index, by name.

    Raises:
        ValueError: the index is cut short, or no such table.
    """
    entries = dict(_table(index.read_bytes()))
    try:
        shards = int(dict(fields(entries.pop(b"")))[NUM_SHARDS])
    except KeyError:
        raise ValueError("it has no header") from None
    if not 0 < shards <= MOST_SHARDS:
        raise ValueError(f"it names {shards} data files, of 1 to {MOST_SHARDS}")
    sizes = dict.fromkeys(range(shards), 0)
    for value in entries.values():
        entry = {number: int(content) for number, content in fields(value) if isinstance(content, int)}
        shard, end = entry.get(SHARD, 0), entry.get(OFFSET, 0) + entry.get(SIZE, 0)
        sizes[shard] = max(sizes.get(shard, 0), end)
    return {f"{index.stem}.data-{shard:05}-of-{shards:05}": size for shard, size in sizes.items()}


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = data[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or not footer.endswith(MAGIC):
        raise ValueError("it does not end as an index does")
    _, _, place = _handle(footer, 0)
    offset, size, _ = _handle(footer, place)
    for _, handle in _block(data, offset, size):
        yield from _block(data, *_handle(handle, 0)[:2])


def _handle(data: bytes, place: int) -> tuple[int, int, int]:
    """Return a block's offset and size, and where the next handle begins."""
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return offset, size, place


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values; a key is written as what differs from the one before."""
    block = data[offset : offset + size]
    if len(block) < max(size, 4) or data[offset + size :][:1] != b"\0":
        raise ValueError("a block of it is cut short or compressed")
    restarts = int.from_bytes(block[-4:], "little")
    place, key = 0, b""
    while place < size - 4 * (restarts + 1):
        shared, place = _varint(block, place)
        added, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + added]
        place += added + length
        yield key, block[place - length : place]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place after it.

    Raises:
        ValueError: the data end before it.
    """
    value = shift = 0
    while place < len(data):
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 0x80:
            return value, place
    raise ValueError("it is cut short")
