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
from redismr.core.codec import decode_block, frames_of
from redismr.core.functions import Grouped, Program
from redismr.core.grouped import Repeats
from redismr.core.kernel import Block, UserCodeError, map_task, reduce_task
from redismr.core.known import known
from redismr.core.model import Crash, MapManifest, Part, ResultManifest, Skipped, task_index
from redismr.core.skips import Skipper, ordinal_of, skipping_map, skipping_reduce
from redismr.core.words import plural
from redismr.errors import LibraryMismatch, SealError
from redismr.sources.kept import unmade
from redismr.sources.protocol import amount_of, places
from redismr.store import Commit
from redismr.workers.process import made_here
from redismr.workers.session import Altered, Names, Session
from redismr.workers.sink import Sink

if TYPE_CHECKING:
    from redismr.sources import Split

FETCH_BYTES = 8 << 20
"""Raw bytes of segments that are asked for at once."""

PASS_BYTES = 256 << 20
"""Raw bytes of a partition that are reduced in one pass when no ``memory`` is given: as Python
objects they take up to about six times as much."""

PYTHON_BYTES = 44 << 20
"""What an executor takes before there is any data. The rest of ``memory`` is for eight times the
raw bytes of a pass: 64 MB of it gave peaks of 60 MB, and of 69 with six times (40 MB of words)."""

LEAST_BYTES = 2 << 20
"""No pass is of less, however little memory there is: each reads the whole partition."""


class Missing(Exception):
    """Segments that a manifest names are not there, or not as sealed: map index -> token."""

    def __init__(self, maps: dict[int, str]) -> None:
        super().__init__(f"the output of {plural(len(maps), 'map task')} is missing")
        self.maps = maps


class Withdrawn(Exception):
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
    after: Callable[[], None] = lambda: None

    def seed(self) -> None:
        """Attempts of one task see the same ``random``, so that most random maps agree."""
        seed = f"{self.session.spec.seed}.{self.task}"
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(zlib.crc32(seed.encode()))


def run_map(attempt: Attempt, first_piece: bytes | None) -> Commit:
    """Run one map attempt; its output is staged, its manifest is in the returned commit.

    Raises:
        Altered: its input is not what the submitter sealed.
        UserCodeError, SourceError: for the executor to report.
    """
    # The attempt holds its split, and in `undo` the sink: a sink that held the attempt would keep
    # the split until the collector comes, after 2 GB of large items in 1.1 GB.
    session, vault, token = attempt.session, attempt.session.vault, attempt.token
    program = session.load()
    attempt.split = split = read_split(session, attempt.task, first_piece)
    sink = Sink(
        lambda p, chunk, data: vault.seal_segment(token, p, chunk, data),
        lambda parts: session.store.put_segments(session.job, parts, session.expire_at),
        attempt.token,
    )
    attempt.undo = lambda: session.store.drop_segments(session.job, sink.fields())
    attempt.seed()
    skipper, partitions = _map_skipper(attempt, split), session.spec.partitions
    if skipper:
        crashes = _deadly_records(attempt)
        program = skipping_map(program, partitions, attempt.cursor, skipper, crashes)
    else:
        program = known(program)
    here = context.Here(session.job, "map", attempt.task, split.source)
    with context.running(context.TaskContext(here, session.params)) as running:
        for partition, block in map_task(program, split.read(), partitions, attempt.cursor):
            sink.write(partition, block)
    inline = sink.finish()
    manifest = MapManifest(
        task=attempt.task,
        token=attempt.token,
        parts=sink.parts,
        inline=inline,
        records_in=ordinal_of(attempt.cursor) + 1,
        records_out=attempt.cursor[1],
        counters=running.counters,
        skipped=skipper.skipped() if skipper else Skipped(),
        made=made_here(),
    )
    record = vault.seal_map_manifest(manifest)
    shuffled, read = sink.sealed_bytes + len(record), amount_of(split)
    return Commit(attempt.task, attempt.token, record, shuffled=shuffled, read=read)


def run_reduce(attempt: Attempt) -> Commit:
    """Run one reduce attempt over exactly the map attempts that its basis names.

    Raises:
        Withdrawn: the stage closed. Missing: segments are gone. Altered: see ``Session``.
        UserCodeError: for the executor to report.
    """
    session, vault, token = attempt.session, attempt.session.vault, attempt.token
    program = session.load()
    names = session.names(attempt.basis)
    if names is None:
        raise Withdrawn
    partition, skipper = task_index(attempt.task), _reduce_skipper(attempt, names)
    program = skipping_reduce(program, skipper) if skipper else known(program)
    sink = Sink(
        lambda p, chunk, data: vault.seal_out(token, p, chunk, data),
        lambda parts: session.store.put_result(session.job, parts[partition], session.expire_at),
        attempt.token,
    )
    attempt.undo = lambda: session.store.drop_result(
        session.job, [f for fields in sink.fields().values() for f in fields]
    )
    attempt.seed()
    here = context.Here(session.job, "reduce", attempt.task, f"partition {partition}")
    foreign, records = False, 0
    with context.running(context.TaskContext(here, session.params)) as running:
        for block, strange in _reduced(attempt, program, names, partition):
            sink.write(partition, block)
            records += len(block[0])
            foreign |= strange
    inline = sink.finish().get(partition, ())
    part = sink.parts.get(partition, Part(0, records, sink.raw_bytes))
    manifest = ResultManifest(
        task=attempt.task,
        token=attempt.token,
        basis=names.basis,
        maps=len(names.manifests),
        maps_digest=names.digest,
        part=part,
        inline=inline,
        foreign=foreign,
        counters=running.counters,
        map_counters=names.counters,
        records_in=names.records_in,
        skipped=skipper.skipped() if skipper else Skipped(),
        map_skipped=names.skipped if partition == 0 else Skipped((), names.skipped.total),
        made=made_here(),
    )
    fields = [f"{m.token}.{c}" for _, m, c in _chunks(names, partition)]
    attempt.after = lambda: session.store.drop_segments(session.job, {partition: fields})
    record = vault.seal_result_manifest(manifest)
    news = session.news("partition", partition=partition)
    return Commit(attempt.task, attempt.token, record, attempt.basis, part.chunks, news=news)


def _reduced(
    attempt: Attempt, program: Program, names: Names, partition: int
) -> Iterator[tuple[Block, bool]]:
    """Result blocks, each with whether it may hold a key of another partition, or one again."""
    session, partitions = attempt.session, attempt.session.spec.partitions
    passes = _passes(session, names, partition)
    # Functions of the user's may emit a key twice; readers must know that to yield it once.
    repeats = Repeats() if isinstance(program.reduce, Grouped) else None
    for i in range(passes):
        blocks = read_blocks(session, names, partition)
        yield from reduce_task(
            program, blocks, attempt.cursor, partition, partitions, (i, passes), repeats=repeats
        )


def _map_skipper(attempt: Attempt, split: Split) -> Skipper | None:
    """What takes note of bad records, if the job may skip some."""
    on_error = attempt.session.spec.on_error
    if on_error == "fail":
        return None
    return Skipper("map", attempt.task, on_error, partial(places, split))


def _reduce_skipper(attempt: Attempt, names: Names) -> Skipper | None:
    """The same for keys.

    Raises:
        TooMany: the map tasks together have skipped more than the job may.
    """
    on_error = attempt.session.spec.on_error
    if on_error == "fail":
        return None
    before, records = names.skipped, names.records_in
    return Skipper("reduce", attempt.task, on_error, list, before=before, records_in=records)


def _deadly_records(attempt: Attempt) -> dict[int, Crash]:
    """Records in which two attempts of the task lost their process; a first time may be chance."""
    session, tokens = attempt.session, dict[int, set[str]]()
    crashes = dict[int, Crash]()
    for token, blob in session.store.crashes(session.job, attempt.task):
        with contextlib.suppress(SealError):  # then it takes one process more
            crash = session.vault.open_crash(attempt.task, token, blob)
            crashes[crash.ordinal] = crash
            tokens.setdefault(crash.ordinal, set()).add(token)
    return {ordinal: crashes[ordinal] for ordinal in crashes if len(tokens[ordinal]) > 1}


def read_split(session: Session, task: str, first_piece: bytes | None) -> Split:
    """The task's split, of as many pieces as its submitter sealed.

    Raises:
        Altered: a piece is missing or not as sealed.
        UserCodeError: the items cannot be made again. LibraryMismatch: for want of a library.
    """

    def pieces() -> Iterator[bytes]:
        blob, number = first_piece, 0
        while True:
            data = session.vault.open_input(task, number, blob)
            yield data
            if data[:1] == b"\0":  # codec: the last piece of its frame
                return
            number += 1
            blob = session.store.get_input_piece(session.job, task, number)

    try:
        frame = next(frames_of(pieces()))
    except SealError as exc:
        raise Altered(str(exc)) from exc
    try:
        return pickle.loads(frame)  # type: ignore[no-any-return]  # authenticated above
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever the user's classes raise
        what = f"the input of task {task}"
        try:
            with session.told_apart(what, frame):
                raise
        except LibraryMismatch:
            raise
        except Exception:  # noqa: BLE001  it is ``error``
            raise UserCodeError("source") from unmade(what, error)


def read_blocks(session: Session, names: Names, partition: int) -> Iterator[Block]:
    """The blocks of a partition in task order, each chunk authenticated before it is parsed.

    Raises:
        Missing: after a pass over all of them, those maps of which a chunk is gone or forged.
        UserCodeError: a value cannot be made again. LibraryMismatch: for want of a library.
    """
    lost: dict[int, str] = {}
    inline = (
        (i, m.inline[partition]) for i, m in enumerate(names.manifests) if partition in m.inline
    )
    ready = next(inline, None)

    def decoded(index: int, frames: Iterable[bytes]) -> Iterator[Block]:
        manifest = names.manifests[index]
        for frame in frames:
            try:
                block = decode_block(frame)
            except Exception as error:  # noqa: BLE001  whatever the user's classes raise
                raise _why_undecoded(session, manifest, frame, error)  # noqa: B904  has its cause
            yield block

    for index, frames in _frames(session, names, partition, lost):
        while ready is not None and ready[0] < index:
            yield from decoded(*ready)
            ready = next(inline, None)
        if not lost:
            yield from decoded(index, frames)
    if lost:
        raise Missing(lost)
    while ready is not None:
        yield from decoded(*ready)
        ready = next(inline, None)


def _why_undecoded(
    session: Session, manifest: MapManifest, frame: bytes, error: Exception
) -> Exception:
    """What to raise for a block that cannot be loaded: a library is to blame, or what is in it."""
    what = f"the output of task {manifest.task}"
    try:
        with session.told_apart(what, frame, manifest.made):
            raise error  # noqa: TRY301  so that its cause is looked for
    except (LibraryMismatch, MemoryError) as told:
        return told
    except Exception:  # noqa: BLE001  the error again
        undecoded = UserCodeError("")
        undecoded.__cause__ = unmade(what, error, "Emit what is in it instead")
        return undecoded


def _frames(
    session: Session, names: Names, partition: int, lost: dict[int, str]
) -> Iterator[tuple[int, Iterable[bytes]]]:
    """(map index, its frames) for each map with staged chunks, fetched some MB at a time."""
    index, chunks = -1, list[bytes]()
    for i, manifest, chunk, blob in _fetch(session, names, partition):
        if i != index and chunks:
            yield index, frames_of(chunks)
            chunks = []
        index = i
        try:
            data = session.vault.open_segment(manifest.token, partition, chunk, blob)
        except SealError:
            lost[i] = manifest.token
            continue
        chunks.append(data)
        if data[:1] == b"\0":
            yield index, frames_of(chunks)
            chunks = []
    if lost:
        yield index, ()


def _fetch(
    session: Session, names: Names, partition: int
) -> Iterator[tuple[int, MapManifest, int, bytes | None]]:
    batch: list[tuple[int, MapManifest, int]] = []
    size = 0
    for i, manifest, chunk in _chunks(names, partition):
        part = manifest.parts[partition]
        batch.append((i, manifest, chunk))
        size += part.raw_bytes // part.chunks + 64
        if size >= FETCH_BYTES:
            yield from _fetch_batch(session, partition, batch)
            batch, size = [], 0
    yield from _fetch_batch(session, partition, batch)


def _fetch_batch(
    session: Session, partition: int, batch: list[tuple[int, MapManifest, int]]
) -> Iterator[tuple[int, MapManifest, int, bytes | None]]:
    fields = [f"{manifest.token}.{chunk}" for _, manifest, chunk in batch]
    blobs = session.store.get_segments(session.job, partition, fields)
    for (i, manifest, chunk), blob in zip(batch, blobs, strict=True):
        yield i, manifest, chunk, blob


def _chunks(names: Names, partition: int) -> Iterator[tuple[int, MapManifest, int]]:
    for i, manifest in enumerate(names.manifests):
        part = manifest.parts.get(partition)
        if part:
            for chunk in range(part.chunks):
                yield i, manifest, chunk


def _passes(session: Session, names: Names, partition: int) -> int:
    raw = sum(m.parts[partition].raw_bytes for m in names.manifests if partition in m.parts)
    raw += sum(sum(map(len, m.inline.get(partition, ()))) for m in names.manifests)
    memory = session.spec.memory
    if session.spec.sort:
        return 1  # passes split the keys by hash, and an order needs them all
    budget = max(LEAST_BYTES, (memory - PYTHON_BYTES) // 8) if memory else PASS_BYTES
    return max(1, -(-raw // budget))
