"""Runs one map or reduce attempt: reads its input, calls the kernel, stages its output.

Bulk first, control last: what is staged here counts only once the returned ``Commit`` is accepted.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from redismr import context
from redismr.core.codec import decode_block, join_frames
from redismr.core.model import Crash, MapManifest, PartSize, ResultManifest, Skipped, task_index
from redismr.core.plurals import pluralize
from redismr.engine.bad_records import (
    SkipRecorder,
    current_ordinal,
    with_skipping_mapfn,
    with_skipping_reducefn,
)
from redismr.engine.duplicate_keys import DuplicateKeyDetector
from redismr.engine.kernel import Block, SubPass, UserCodeError, map_task, reduce_task
from redismr.engine.program import GroupFunction, Program
from redismr.engine.sum_reducers import use_named_sum
from redismr.errors import LibraryMismatch, SealError
from redismr.sources.protocol import amount_of, describe_records
from redismr.sources.record_snapshots import unpickle_error
from redismr.store import Commit
from redismr.workers.output_writer import OutputWriter
from redismr.workers.process_setup import local_provenance
from redismr.workers.session import JobAltered, MapOutputs, Session

if TYPE_CHECKING:
    from redismr.sources import Split

FETCH_BYTES = 8 << 20
"""Raw bytes of segments that are asked for at once."""

DEFAULT_PASS_BYTES = 256 << 20
"""Raw bytes of a partition that are reduced in one pass when no ``memory`` is given: as Python
objects they take up to about six times as much."""

BASE_PROCESS_BYTES = 44 << 20
"""What an executor takes before there is any data. The rest of ``memory`` is for eight times the
raw bytes of a pass: 64 MB of it gave peaks of 60 MB, and of 69 with six times (40 MB of words)."""

MIN_PASS_BYTES = 2 << 20
"""No pass is of less, however little memory there is: each reads the whole partition."""


class SegmentsMissing(Exception):
    """Segments that a manifest names are not there, or not as sealed: map index -> token."""

    def __init__(self, maps: dict[int, str]) -> None:
        super().__init__(f"the output of {pluralize(len(maps), 'map task')} is missing")
        self.maps = maps


class StageClosed(Exception):
    """The reduce stage closed while this attempt was on its way."""


@dataclass(slots=True)
class Attempt:
    """One attempt: what the executor needs to commit, undo or explain it."""

    session: Session
    task: str
    token: str
    basis: str
    cursor: MutableSequence[int]
    split: Split | None = None
    counters: dict[str, int] = field(default_factory=dict)
    #: Undo of what was staged, for an attempt that is refused.
    undo: Callable[[], None] = lambda: None
    #: What may be freed once the commit was accepted.
    on_committed: Callable[[], None] = lambda: None

    def seed_random(self) -> None:
        """Attempts of one task see the same ``random``, so that most random maps agree."""
        seed = f"{self.session.spec.seed}.{self.task}"
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(zlib.crc32(seed.encode()))


def run_map(attempt: Attempt, first_piece: bytes | None) -> Commit:
    """Run one map attempt; its output is staged, its manifest is in the returned commit.

    Raises:
        JobAltered: its input is not what the submitter sealed.
        UserCodeError, SourceError: for the executor to report.
    """
    # The attempt holds its split, and in `undo` the writer: a writer that held the attempt would
    # keep
    # the split until the collector comes, after 2 GB of large items in 1.1 GB.
    session, sealer, token = attempt.session, attempt.session.sealer, attempt.token
    program = session.load()
    attempt.split = split = read_split(session, attempt.task, first_piece)
    writer = OutputWriter(
        lambda p, chunk, data: sealer.seal_segment(token, p, chunk, data),
        lambda parts: session.store.put_segments(session.job, parts, session.expire_at),
        attempt.token,
    )
    attempt.undo = lambda: session.store.drop_segments(session.job, writer.chunk_names())
    attempt.seed_random()
    skip_recorder, partitions = _map_skip_recorder(attempt, split), session.spec.partitions
    if skip_recorder:
        crashes = _crashing_records(attempt)
        program = with_skipping_mapfn(program, partitions, attempt.cursor, skip_recorder, crashes)
    else:
        program = use_named_sum(program)
    here = context.Here(session.job, "map", attempt.task, split.source)
    with context.active_task(context.TaskContext(here, session.params)) as running:
        for partition, block in map_task(program, split.read(), partitions, attempt.cursor):
            writer.write(partition, block)
    inline = writer.finish()
    manifest = MapManifest(
        task=attempt.task,
        token=attempt.token,
        parts=writer.parts,
        inline=inline,
        records_in=current_ordinal(attempt.cursor) + 1,
        records_out=attempt.cursor[1],
        counters=running.counters,
        skipped=skip_recorder.skipped() if skip_recorder else Skipped(),
        provenance=local_provenance(),
    )
    record = sealer.seal_map_manifest(manifest)
    shuffled, read = writer.sealed_bytes + len(record), amount_of(split)
    return Commit(attempt.task, attempt.token, record, shuffled=shuffled, read=read)


def run_reduce(attempt: Attempt) -> Commit:
    """Run one reduce attempt over exactly the map attempts that its basis names.

    Raises:
        StageClosed: the stage closed. SegmentsMissing: segments are gone. JobAltered: see
        ``Session``.
        UserCodeError: for the executor to report.
    """
    session, sealer, token = attempt.session, attempt.session.sealer, attempt.token
    program = session.load()
    outputs = session.map_outputs(attempt.basis)
    if outputs is None:
        raise StageClosed
    partition, skip_recorder = task_index(attempt.task), _reduce_skip_recorder(attempt, outputs)
    program = (
        with_skipping_reducefn(program, skip_recorder) if skip_recorder else use_named_sum(program)
    )
    writer = OutputWriter(
        lambda p, chunk, data: sealer.seal_result_chunk(token, p, chunk, data),
        lambda parts: session.store.put_result(session.job, parts[partition], session.expire_at),
        attempt.token,
    )
    attempt.undo = lambda: session.store.drop_result(
        session.job, [f for fields in writer.chunk_names().values() for f in fields]
    )
    attempt.seed_random()
    here = context.Here(session.job, "reduce", attempt.task, f"partition {partition}")
    has_irregular_keys, records = False, 0
    with context.active_task(context.TaskContext(here, session.params)) as running:
        for block, is_irregular in _reduce_passes(attempt, program, outputs, partition):
            writer.write(partition, block)
            records += len(block[0])
            has_irregular_keys |= is_irregular
    inline = writer.finish().get(partition, ())
    part = writer.parts.get(partition, PartSize(0, records, writer.raw_bytes))
    manifest = ResultManifest(
        task=attempt.task,
        token=attempt.token,
        basis=outputs.basis,
        maps=len(outputs.manifests),
        maps_digest=outputs.digest,
        part=part,
        inline=inline,
        has_irregular_keys=has_irregular_keys,
        counters=running.counters,
        map_counters=outputs.counters,
        records_in=outputs.records_in,
        skipped=skip_recorder.skipped() if skip_recorder else Skipped(),
        map_skipped=outputs.skipped if partition == 0 else Skipped((), outputs.skipped.total),
        provenance=local_provenance(),
    )
    fields = [f"{m.token}.{c}" for _, m, c in _staged_chunks(outputs, partition)]
    attempt.on_committed = lambda: session.store.drop_segments(session.job, {partition: fields})
    record = sealer.seal_result_manifest(manifest)
    news = session.signed_event("partition", partition=partition)
    return Commit(attempt.task, attempt.token, record, attempt.basis, part.chunks, event=news)


def _reduce_passes(
    attempt: Attempt, program: Program, outputs: MapOutputs, partition: int
) -> Iterator[tuple[Block, bool]]:
    """Result blocks, each with whether it may hold a key of another partition, or one again."""
    session, partitions = attempt.session, attempt.session.spec.partitions
    passes = _pass_count(session, outputs, partition)
    # Functions of the user's may emit a key twice; readers must know that to yield it once.
    duplicate_detector = (
        DuplicateKeyDetector() if isinstance(program.reduce, GroupFunction) else None
    )
    for i in range(passes):
        blocks = read_blocks(session, outputs, partition)
        yield from reduce_task(
            program,
            blocks,
            attempt.cursor,
            partition,
            partitions,
            SubPass(i, passes),
            duplicate_detector=duplicate_detector,
        )


def _map_skip_recorder(attempt: Attempt, split: Split) -> SkipRecorder | None:
    """What takes note of bad records, if the job may skip some."""
    on_error = attempt.session.spec.on_error
    if on_error == "fail":
        return None
    return SkipRecorder("map", attempt.task, on_error, partial(describe_records, split))


def _reduce_skip_recorder(attempt: Attempt, outputs: MapOutputs) -> SkipRecorder | None:
    """The same for keys.

    Raises:
        SkipLimitExceeded: the map tasks together have skipped more than the job may.
    """
    on_error = attempt.session.spec.on_error
    if on_error == "fail":
        return None
    before, records = outputs.skipped, outputs.records_in
    return SkipRecorder(
        "reduce", attempt.task, on_error, list, skipped_before=before, records_in=records
    )


def _crashing_records(attempt: Attempt) -> dict[int, Crash]:
    """Records in which two attempts of the task lost their process; a first time may be chance."""
    session, tokens = attempt.session, dict[int, set[str]]()
    crashes = dict[int, Crash]()
    for token, blob in session.store.crash_notes(session.job, attempt.task):
        with contextlib.suppress(SealError):  # then it takes one process more
            crash = session.sealer.open_crash(attempt.task, token, blob)
            crashes[crash.ordinal] = crash
            tokens.setdefault(crash.ordinal, set()).add(token)
    return {ordinal: crashes[ordinal] for ordinal in crashes if len(tokens[ordinal]) > 1}


def read_split(session: Session, task: str, first_piece: bytes | None) -> Split:
    """The task's split, of as many pieces as its submitter sealed.

    Raises:
        JobAltered: a piece is missing or not as sealed.
        UserCodeError: the items cannot be made again. LibraryMismatch: for want of a library.
    """

    def pieces() -> Iterator[bytes]:
        blob, number = first_piece, 0
        while True:
            data = session.sealer.open_input(task, number, blob)
            yield data
            if data[:1] == b"\0":  # codec: the last piece of its frame
                return
            number += 1
            blob = session.store.get_input_piece(session.job, task, number)

    try:
        frame = next(join_frames(pieces()))
    except SealError as exc:
        raise JobAltered(str(exc)) from exc
    try:
        return pickle.loads(frame)  # type: ignore[no-any-return]  # authenticated above
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever the user's classes raise
        what = f"the input of task {task}"
        try:
            with session.explain_library_errors(what, frame):
                raise
        except LibraryMismatch:
            raise
        except Exception:  # noqa: BLE001  it is ``error``
            raise UserCodeError("source") from unpickle_error(what, error)


def read_blocks(session: Session, outputs: MapOutputs, partition: int) -> Iterator[Block]:
    """The blocks of a partition in task order, each chunk authenticated before it is parsed.

    Raises:
        SegmentsMissing: after a pass over all of them, those maps of which a chunk is gone or
        forged.
        UserCodeError: a value cannot be made again. LibraryMismatch: for want of a library.
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
            except Exception as error:  # noqa: BLE001  whatever the user's classes raise
                raise _decoding_error(session, manifest, frame, error)  # noqa: B904  has its cause
            yield block

    for index, frames in _staged_frames(session, outputs, partition, lost):
        while ready is not None and ready[0] < index:
            yield from decoded(*ready)
            ready = next(inline, None)
        if not lost:
            yield from decoded(index, frames)
    if lost:
        raise SegmentsMissing(lost)
    while ready is not None:
        yield from decoded(*ready)
        ready = next(inline, None)


def _decoding_error(
    session: Session, manifest: MapManifest, frame: bytes, error: Exception
) -> Exception:
    """What to raise for a block that cannot be loaded: a library is to blame, or what is in it."""
    what = f"the output of task {manifest.task}"
    try:
        with session.explain_library_errors(what, frame, manifest.provenance):
            raise error  # noqa: TRY301  so that its cause is looked for
    except (LibraryMismatch, MemoryError) as mismatch:
        return mismatch
    except Exception:  # noqa: BLE001  the error again
        undecoded = UserCodeError("")
        undecoded.__cause__ = unpickle_error(what, error, "Emit what is in it instead")
        return undecoded


def _staged_frames(
    session: Session, outputs: MapOutputs, partition: int, lost: dict[int, str]
) -> Iterator[tuple[int, Iterable[bytes]]]:
    """(map index, its frames) for each map with staged chunks, fetched some MB at a time."""
    index, chunks = -1, list[bytes]()
    for i, manifest, chunk, blob in _fetch_chunks(session, outputs, partition):
        if i != index and chunks:
            yield index, join_frames(chunks)
            chunks = []
        index = i
        try:
            data = session.sealer.open_segment(manifest.token, partition, chunk, blob)
        except SealError:
            lost[i] = manifest.token
            continue
        chunks.append(data)
        if data[:1] == b"\0":
            yield index, join_frames(chunks)
            chunks = []
    if lost:
        yield index, ()


def _fetch_chunks(
    session: Session, outputs: MapOutputs, partition: int
) -> Iterator[tuple[int, MapManifest, int, bytes | None]]:
    batch: list[tuple[int, MapManifest, int]] = []
    size = 0
    for i, manifest, chunk in _staged_chunks(outputs, partition):
        part = manifest.parts[partition]
        batch.append((i, manifest, chunk))
        size += part.raw_bytes // part.chunks + 64
        if size >= FETCH_BYTES:
            yield from _fetch_chunk_batch(session, partition, batch)
            batch, size = [], 0
    yield from _fetch_chunk_batch(session, partition, batch)


def _fetch_chunk_batch(
    session: Session, partition: int, batch: list[tuple[int, MapManifest, int]]
) -> Iterator[tuple[int, MapManifest, int, bytes | None]]:
    fields = [f"{manifest.token}.{chunk}" for _, manifest, chunk in batch]
    blobs = session.store.get_segments(session.job, partition, fields)
    for (i, manifest, chunk), blob in zip(batch, blobs, strict=True):
        yield i, manifest, chunk, blob


def _staged_chunks(outputs: MapOutputs, partition: int) -> Iterator[tuple[int, MapManifest, int]]:
    for i, manifest in enumerate(outputs.manifests):
        part = manifest.parts.get(partition)
        if part:
            for chunk in range(part.chunks):
                yield i, manifest, chunk


def _pass_count(session: Session, outputs: MapOutputs, partition: int) -> int:
    raw = sum(m.parts[partition].raw_bytes for m in outputs.manifests if partition in m.parts)
    raw += sum(sum(map(len, m.inline.get(partition, ()))) for m in outputs.manifests)
    memory = session.spec.memory
    if session.spec.sort:
        return 1  # passes split the keys by hash, and an order needs them all
    budget = (
        max(MIN_PASS_BYTES, (memory - BASE_PROCESS_BYTES) // 8) if memory else DEFAULT_PASS_BYTES
    )
    return max(1, -(-raw // budget))
