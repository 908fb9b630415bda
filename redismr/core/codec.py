"""Turn blocks of records into bytes and back, and cut frames into chunks.

A block is columnar: keys and values as two parallel lists. A column of plain strings travels as
one joined string, every other column as a pickle. Compression and authentication happen in
``seal``. Callers must never pass bytes here that were not authenticated.

Measured on 208,000 (word, count) records, ns a record: one pickle of both columns 91 to dump and
89 to load; joined keys and a pickle of the values 20 and 73, and 20 % fewer bytes after zstd.
marshal is no faster than pickle without its memo, and would silently turn a bytearray into bytes.
"""

import pickle
from collections.abc import Collection, Iterable, Iterator
from io import BytesIO
from itertools import chain, compress, islice, repeat
from operator import is_, is_not, sub
from struct import Struct
from typing import Any

from redismr import native
from redismr.core.pickle_by_value import PICKLE_PROTOCOL, dumps
from redismr.core.pickled_snapshots import FindClass, NoIteratorPickler, restore_snapshot
from redismr.core.printable import short_repr
from redismr.errors import BadKey, BadValue, RecordError
from redismr.native import IntBlock

Block = tuple[Collection[Any], list[Any]] | IntBlock
"""Keys (a list or ``KeyColumn``) and values, parallel. A key with several values comes several
times in a row. The C extension has a block of its own, which gives both columns as lists."""

KEY_SEPARATOR = "\0"
"""Stands between joined keys. A NUL is rarer in text than a line feed; a column with a key that
holds one stays a list."""

SLICE_KEYS = 4096
"""Number of keys that are hashed, partitioned and joined in one go, so that they stay in the cache.
Measured on 208,000 words in 64 partitions, ns a key from dict to bytes: 350 in slices of 2048 to
8192; 530 if columns are joined after all keys were partitioned."""

CHUNK_BYTES = 1 << 20  # most bytes of one field in Redis, before compression
_BLOCK_HEADER = Struct("<BII")  # flags, bytes of keys, bytes of runs
_KEYS_JOINED_FLAG = 1
_NUMBER_OR_NONE_TYPES = frozenset((int, float, bool, type(None)))
_TEXT_TYPES = frozenset((str, bytes))
_NUMBER_BYTES = 9
_SAMPLE_SIZE = 64
_SHORT_COLUMN = 4  # shorter columns are pickled unseen: one int takes 0.5 us instead of 1.4


def record_count(block: Block) -> int:
    """Return the number of records of a block."""
    return block.records if isinstance(block, IntBlock) else len(block[0])


def encode_block(block: Block) -> bytes:
    """Return a block as bytes; BadKey or BadValue, which names it, if one cannot be pickled."""
    if isinstance(block, IntBlock):
        return block.encode()
    keys, values = block
    try:
        flags, packed_keys, runs = _pack_keys(keys)
        packed_values = _pickle(values)
    except Exception as error:
        raise _pickle_error(keys, values) or error from error
    packed_runs = _pickle(runs) if runs else b""
    head = _BLOCK_HEADER.pack(flags, len(packed_keys), len(packed_runs))
    return b"".join((head, packed_keys, packed_runs, packed_values))


def decode_block(data: bytes, find_class: FindClass | None = None) -> Block:
    """Return the block that ``encode_block`` wrote. Unpickles: for authenticated bytes only."""
    if native.IS_LOADED and (block := native.totals.decode(data)) is not None:
        return block
    flags, size, runs_size = _BLOCK_HEADER.unpack_from(data)
    view = memoryview(data)
    values_offset = _BLOCK_HEADER.size + size + runs_size
    column = view[_BLOCK_HEADER.size : _BLOCK_HEADER.size + size]
    keys = (
        str(column, "utf-8", "surrogatepass").split(KEY_SEPARATOR)
        if flags & _KEYS_JOINED_FLAG
        else restore_snapshot(column, find_class=find_class)
    )
    if runs_size:
        runs = pickle.loads(view[_BLOCK_HEADER.size + size : values_offset])
        keys = list(chain.from_iterable(map(repeat, keys, runs)))
    return keys, restore_snapshot(view[values_offset:], find_class=find_class)


def estimate_bytes(block: Block, *, is_joined: bool = False) -> int:
    """Return about how many bytes the encoded block will take. Never raises.

    ``is_joined`` asks for the size of an ``IntBlock`` as that of a ``KeyColumn``.
    """
    if isinstance(block, IntBlock):
        if not block.has_text_keys:
            return 2 * _NUMBER_BYTES * block.records
        if is_joined:
            return block.sample_chars(1) + block.records + _NUMBER_BYTES * block.records
        step = max(1, block.records // _SAMPLE_SIZE) if block.records > 4 * _SAMPLE_SIZE else 1
        sampled = len(range(0, block.records, step))
        key_bytes = (block.sample_chars(step) + 4 * sampled) * block.records // sampled
        return key_bytes + _NUMBER_BYTES * block.records
    keys, values = block
    size = keys.joined_length() if isinstance(keys, KeyColumn) else 0
    return (size or _estimate_column_bytes(list(keys))) + _estimate_column_bytes(values)


def split_frame(frame: bytes, limit: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Cut a frame into chunks of at most ``limit`` + 1 bytes.

    The first byte of a chunk is a mark: 0 on the last chunk of the frame, else 1.
    """
    view = memoryview(frame)
    last = max(0, (len(frame) - 1) // limit) * limit
    for start in range(0, last, limit):
        yield b"\1" + view[start : start + limit]
    yield b"\0" + view[last:]


def join_frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join the chunks of several frames, in order; ValueError if the last chunk is missing."""
    pieces: list[memoryview] = []
    for chunk in chunks:
        pieces.append(memoryview(chunk)[1:])
        if chunk[0] == 0:
            yield b"".join(pieces)
            pieces = []
    if pieces:
        raise ValueError("the last frame is cut off")


def _pack_keys(keys: Collection[Any]) -> tuple[int, bytes, list[int]]:
    runs: list[int] = []
    text = keys.text() if isinstance(keys, KeyColumn) else None
    if text is None:
        heads, runs = _fold_runs(list(keys))
        if (text := join_keys(heads)) is None:
            return 0, _pickle(heads), runs
    return _KEYS_JOINED_FLAG, text.encode("utf-8", "surrogatepass"), runs


def _fold_runs(keys: list[Any]) -> tuple[list[Any], list[int]]:
    """Return the keys with each run of one object written once, and the lengths of the runs.

    Compared by identity, because 1 and True are equal and yet two keys to show. The lengths are
    empty if there are no runs; finding that takes 12 ns a key.
    """
    if not any(map(is_, keys, islice(keys, 1, None))):
        return keys, []
    starts_run = map(is_not, keys, islice(keys, 1, None))
    starts = [0, *compress(range(1, len(keys)), starts_run)]
    ends = [*starts[1:], len(keys)]
    return [keys[i] for i in starts], list(map(sub, ends, starts))


def _pickle(column: list[Any]) -> bytes:
    if len(column) > _SHORT_COLUMN and _can_skip_memo(column):
        buffer = BytesIO()
        pickler = pickle.Pickler(buffer, PICKLE_PROTOCOL)
        pickler.fast = True
        pickler.dump(column)
        return buffer.getvalue()
    try:
        return pickle.dumps(column, PICKLE_PROTOCOL)
    except Exception:  # noqa: BLE001 - lambdas, local classes, whatever a __reduce__ raises
        return dumps(column, NoIteratorPickler)


def _can_skip_memo(column: list[Any]) -> bool:
    """True if pickle without its memo is safe and short: plain scalars, few of them shared.

    Measured: 17 ns against 140 ns to dump a string. With the memo, a shared string is written once
    and loaded as one object, as an index of words by file name needs.
    """
    types = set(map(type, column))
    if types <= _NUMBER_OR_NONE_TYPES:
        return True
    if not types <= _NUMBER_OR_NONE_TYPES | _TEXT_TYPES:
        return False
    sample = column[:_SAMPLE_SIZE]
    return len(set(map(id, sample))) > len(sample) // 2


def _pickle_error(keys: Collection[Any], values: list[Any]) -> RecordError | None:
    """Return an error that names the first key or value that cannot be pickled; None if all can."""
    for key, value in zip(keys, values, strict=True):
        for kind, item in ((BadKey, key), (BadValue, value)):
            try:
                dumps(item, NoIteratorPickler)
            except Exception as error:  # noqa: BLE001 - see encode_block
                words = "a key" if kind is BadKey else f"the value of key {short_repr(key)}"
                why = f"{type(error).__name__}: {error}"
                return kind(f"{words}, of type {type(item).__qualname__}, cannot be pickled: {why}")
    return None


def _estimate_column_bytes(column: list[Any]) -> int:
    # Of a long column only a sample is read: each string costs 150 ns, a cache miss.
    sample = column[:: len(column) // _SAMPLE_SIZE] if len(column) > 4 * _SAMPLE_SIZE else column
    types = set(map(type, sample))
    if types <= _TEXT_TYPES:
        return (sum(map(len, sample)) + 4 * len(sample)) * len(column) // max(1, len(sample))
    if types <= _NUMBER_OR_NONE_TYPES:
        return _NUMBER_BYTES * len(column)
    sample = column[:: max(1, len(column) // 16)]
    try:
        size = len(pickle.dumps(sample, PICKLE_PROTOCOL))
    except Exception:  # noqa: BLE001 - encode_block will name the value
        size = 100 * len(sample)
    return size * len(column) // len(sample)


# ---- columns of keys: strings are joined while the processor's cache holds them


class KeyColumn:
    """Keys in the order added; kept as joined text as long as all of them are exactly str."""

    __slots__ = ("_count", "_joined_slices", "_mixed_keys")

    def __init__(self) -> None:
        self._joined_slices: list[str] = []
        self._count = 0
        self._mixed_keys: list[Any] | None = None

    def add(self, keys: list[Any], *, all_str: bool) -> None:
        """Append keys; ``all_str`` says that each of them is exactly a str."""
        if not keys:
            return
        self._count += len(keys)
        if self._mixed_keys is None:
            text = KEY_SEPARATOR.join(keys) if all_str else ""
            if all_str and text.count(KEY_SEPARATOR) == len(keys) - 1:
                self._joined_slices.append(text)
                return
            self._mixed_keys = list(self)
            self._joined_slices = []
        self._mixed_keys += keys

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        if self._mixed_keys is not None:
            return iter(self._mixed_keys)
        return chain.from_iterable(text.split(KEY_SEPARATOR) for text in self._joined_slices)

    def __contains__(self, key: object) -> bool:
        return any(key == member for member in self)

    def joined_length(self) -> int:
        """Return the length of ``text()``; 0 if that is None."""
        return sum(map(len, self._joined_slices)) + len(self._joined_slices)

    def text(self) -> str | None:
        """Return all keys joined; None if one is no str or holds the separator."""
        return KEY_SEPARATOR.join(self._joined_slices) if self._joined_slices else None


def are_all_str(keys: list[Any]) -> bool:
    """True if each key is exactly a str."""
    return set(map(type, keys)) == {str}


def join_keys(keys: list[Any]) -> str | None:
    """Return the keys joined; None if one is no str or holds the separator."""
    texts = []
    for start in range(0, len(keys), SLICE_KEYS):
        part = keys[start : start + SLICE_KEYS]
        if not are_all_str(part):
            return None
        texts.append(KEY_SEPARATOR.join(part))
    text = KEY_SEPARATOR.join(texts)
    return text if text.count(KEY_SEPARATOR) == len(keys) - 1 else None
