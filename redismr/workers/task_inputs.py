"""Reads and verifies the input of a task: a map task's split, a reduce task's segments."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator

from redismr.core.codec import decode_block, join_frames
from redismr.core.model import MapManifest, Provenance
from redismr.core.plurals import pluralize
from redismr.engine.kernel import Block, UserCodeError
from redismr.errors import LibraryMismatch, SealError
from redismr.shipping.libraries import describe_library_error
from redismr.sources import Split
from redismr.sources.record_snapshots import unpickle_error
from redismr.workers.process_setup import process_name
from redismr.workers.session import JobAltered, MapOutputs, Session

StagedChunk = tuple[int, MapManifest, int]
"""Index and manifest of a map, and the number of one of its chunks."""

FETCH_BYTES = 8 << 20  # raw bytes of segments that are fetched in one round trip

DEFAULT_PASS_BYTES = 256 << 20
"""Raw bytes of a partition that one pass reduces if the job gives no ``memory``. As Python objects
they take up to about six times as much."""

BASE_PROCESS_BYTES = 44 << 20
"""Memory of an executor without data. The rest of ``memory`` is for eight times the raw bytes of a
pass: with 64 MB the peak was 60 MB, and 69 MB with six times (40 MB of words)."""

MIN_PASS_BYTES = 2 << 20  # however little memory there is: each pass reads the whole partition


class SegmentsMissing(Exception):
    """Segments that a manifest names are gone or forged."""

    def __init__(self, maps: dict[int, str]) -> None:
        super().__init__(f"the output of {pluralize(len(maps), 'map task')} is missing")
        self.maps = maps  #: Map index -> token of the attempt whose segment is missing.


def read_split(session: Session, task: str, first_piece: bytes | None) -> Split:
    """Return the task's split, put together from all pieces that the submitter sealed.

    Raises:
        JobAltered: a piece is missing or not as sealed.
        UserCodeError: the items cannot be unpickled.
        LibraryMismatch: a library is missing here, or of another version.
    """

    def pieces() -> Iterator[bytes]:
        blob, number = first_piece, 0
        while True:
            data = session.sealer.open_input(task, number, blob)
            yield data
            if data[:1] == b"\0":  # codec: the last piece of the frame
                return
            number += 1
            blob = session.store.get_input_piece(session.job, task, number)

    try:
        frame = next(join_frames(pieces()))
    except SealError as exc:
        raise JobAltered(str(exc)) from exc
    try:
        return pickle.loads(frame)  # type: ignore[no-any-return]  # authenticated above
    except (LibraryMismatch, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the user's classes may raise anything
        what, made_by = f"the input of task {task}", session.provenance
        raise _loading_error("source", what, frame, made_by, error)  # noqa: B904  it has a cause


def read_blocks(session: Session, outputs: MapOutputs, partition: int) -> Iterator[Block]:
    """Yield the blocks of a partition in task order; each chunk is verified before it is parsed.

    Raises:
        SegmentsMissing: a chunk is gone or forged. Raised after a look at all chunks, with all maps
            concerned.
        UserCodeError: a value cannot be unpickled.
        LibraryMismatch: a library is missing here, or of another version.
    """
    lost: dict[int, str] = {}
    inline = (
        (i, m.inline[partition]) for i, m in enumerate(outputs.manifests) if partition in m.inline
    )
    ready = next(inline, None)

    def decoded(index: int, frames: Iterable[bytes]) -> Iterator[Block]:
        manifest = outputs.manifests[index]
        for frame in frames:
            try:
                block = decode_block(frame)
            except (LibraryMismatch, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001  the user's classes may raise anything
                what, advice = f"the output of task {manifest.task}", "Emit what is in it instead"
                made_by = manifest.provenance
                raise _loading_error("", what, frame, made_by, error, advice)  # noqa: B904  it has a cause
            yield block

    for index, frames in _staged_frames(session, outputs, partition, lost):
        # 1. Small outputs, from manifests, of maps before this one.
        while ready is not None and ready[0] < index:
            yield from decoded(*ready)
            ready = next(inline, None)
        # 2. The staged output of this map, unless a chunk is missing: then only look for others.
        if not lost:
            yield from decoded(index, frames)
    if lost:
        raise SegmentsMissing(lost)
    while ready is not None:
        yield from decoded(*ready)
        ready = next(inline, None)


def _loading_error(
    function: str, what: str, data: bytes, made_by: Provenance, error: Exception, *advice: str
) -> Exception:
    """Return the error for data that cannot be loaded: a library's fault, or the values'."""
    text = describe_library_error(error, what, made_by, data, process_name())
    found = LibraryMismatch(text) if text else UserCodeError(function)
    found.__cause__ = error if text else unpickle_error(what, error, *advice)
    return found


def _staged_frames(
    session: Session, outputs: MapOutputs, partition: int, lost: dict[int, str]
) -> Iterator[tuple[int, Iterable[bytes]]]:
    """Yield (map index, frames) for each map with staged chunks; add bad ones to ``lost``."""
    index, chunks = -1, list[bytes]()
    for (i, manifest, chunk), blob in _fetch_chunks(session, outputs, partition):
        # 1. The first chunk of another map.
        if i != index and chunks:
            yield index, join_frames(chunks)
            chunks = []
        index = i
        # 2. A chunk that is gone or forged.
        try:
            data = session.sealer.open_segment(manifest.token, partition, chunk, blob)
        except SealError:
            lost[i] = manifest.token
            continue
        chunks.append(data)
        # 3. The last chunk of a frame.
        if data[:1] == b"\0":
            yield index, join_frames(chunks)
            chunks = []
    if lost:
        yield index, ()


def _fetch_chunks(
    session: Session, outputs: MapOutputs, partition: int
) -> Iterator[tuple[StagedChunk, bytes | None]]:
    """Yield all staged chunks of a partition; fetch ``FETCH_BYTES`` at a time."""
    batch, size = list[StagedChunk](), 0

    def fetch_batch() -> Iterator[tuple[StagedChunk, bytes | None]]:
        fields = [f"{manifest.token}.{chunk}" for _, manifest, chunk in batch]
        return zip(batch, session.store.get_segments(session.job, partition, fields), strict=True)

    for staged in staged_chunks(outputs, partition):
        part = staged[1].parts[partition]
        batch.append(staged)
        size += part.raw_bytes // part.chunks + 64
        if size >= FETCH_BYTES:
            yield from fetch_batch()
            batch, size = [], 0
    yield from fetch_batch()


def staged_chunks(outputs: MapOutputs, partition: int) -> Iterator[StagedChunk]:
    """Yield all staged chunks of a partition, in the order of maps and of their chunks."""
    for i, manifest in enumerate(outputs.manifests):
        if part := manifest.parts.get(partition):
            for chunk in range(part.chunks):
                yield i, manifest, chunk


def pass_count(session: Session, outputs: MapOutputs, partition: int) -> int:
    """Return in how many passes to reduce a partition, so that each fits the job's memory."""
    if session.spec.sort:
        return 1  # passes split the keys by hash, and an order needs all keys
    raw = sum(m.parts[partition].raw_bytes for m in outputs.manifests if partition in m.parts)
    raw += sum(sum(map(len, m.inline.get(partition, ()))) for m in outputs.manifests)
    memory = session.spec.memory
    budget = (
        max(MIN_PASS_BYTES, (memory - BASE_PROCESS_BYTES) // 8) if memory else DEFAULT_PASS_BYTES
    )
    return max(1, -(-raw // budget))
