"""Runs one map or reduce attempt: reads its input, calls the kernel, and stages its output.

Bulk data is written first, the commit last: what is staged here counts only once the returned
``Commit`` is accepted.
"""

import contextlib
import random
import sys
import zlib
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from functools import partial

from redismr import context
from redismr.core.codec import record_count
from redismr.core.model import (
    AttemptRef,
    Crash,
    MapManifest,
    PartSize,
    ResultManifest,
    Skipped,
    is_map_task,
    task_index,
    task_stage,
)
from redismr.engine import bad_records
from redismr.engine.call_reducer import DuplicateKeyDetector
from redismr.engine.kernel import Block, SubPass, map_task, reduce_task
from redismr.engine.program import GroupFunction, Program
from redismr.errors import SealError
from redismr.sources import Split
from redismr.sources.protocol import amount_of, describe_records
from redismr.store import Commit
from redismr.workers.output_writer import OutputWriter
from redismr.workers.process_setup import local_provenance
from redismr.workers.session import MapOutputs, Session
from redismr.workers.task_inputs import pass_count, read_blocks, read_split, staged_chunks


class StageClosed(Exception):
    """The reduce stage closed before this attempt began."""


@dataclass(slots=True)
class Attempt:
    """One attempt of a task: what the executor needs to commit, undo or explain it."""

    session: Session
    task: str
    token: str
    basis: str  #: The opening of the reduce stage that a reduce attempt belongs to.
    cursor: MutableSequence[int]  #: In the slot: ordinal of the current record, pairs emitted.
    split: Split | None = None  #: A map task's input, once it was read.
    #: Stages the output. It must not refer to the attempt: in such a cycle the split would stay in
    #: memory until the garbage collector comes (1.1 GB after 2 GB of large items).
    writer: OutputWriter | None = None
    segments_read: Sequence[str] = ()  #: Names of the segments that a reduce attempt has read.

    @property
    def ref(self) -> AttemptRef:
        """The attempt's name, for the store and the reporter."""
        return AttemptRef(self.session.job, self.task, self.token)

    def undo(self) -> None:
        """Delete what the attempt staged: it failed, or its commit was refused."""
        store, job = self.session.store, self.session.job
        staged = self.writer.chunk_names() if self.writer else {}
        if is_map_task(self.task):
            store.drop_segments(job, staged)
        else:
            store.drop_result(job, [name for names in staged.values() for name in names])

    def free_input(self) -> None:
        """Delete the segments that the attempt has read. Call it once the commit was accepted."""
        if self.segments_read:
            read = {task_index(self.task): self.segments_read}
            self.session.store.drop_segments(self.session.job, read)

    def seed_random(self) -> None:
        """Seed ``random`` equally for all attempts of a task, so that most random maps agree."""
        seed = f"{self.session.spec.seed}.{self.task}"
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(zlib.crc32(seed.encode()))


def run_map(attempt: Attempt, first_piece: bytes | None) -> Commit:
    """Run one map attempt: stage its output, and return the commit with its manifest.

    ``first_piece`` is the first sealed piece of the task's input.

    Raises:
        JobAltered: the job's code or input is not what the submitter sealed.
        UserCodeError, SourceError, SkipLimitExceeded: for the executor to report.
    """
    session, sealer, token = attempt.session, attempt.session.sealer, attempt.token
    program = session.load()
    attempt.split = split = read_split(session, attempt.task, first_piece)
    attempt.writer = writer = OutputWriter(
        lambda p, chunk, data: sealer.seal_segment(token, p, chunk, data),
        lambda parts: session.store.put_segments(session.job, parts, session.expire_at),
        token,
    )
    attempt.seed_random()
    partitions = session.spec.partitions
    skip_recorder = _skip_recorder(attempt, partial(describe_records, split))
    if skip_recorder:
        program = bad_records.with_skipping_mapfn(
            program, partitions, attempt.cursor, skip_recorder, _crashing_records(attempt)
        )
    here = context.Here(session.job, "map", attempt.task, split.source)
    with context.active_task(context.TaskContext(here, session.params)) as running:
        for partition, block in map_task(program, split.read(), partitions, attempt.cursor):
            writer.write(partition, block)
    inline = writer.finish()
    manifest = MapManifest(
        task=attempt.task,
        token=token,
        parts=writer.parts,
        inline=inline,
        records_in=bad_records.current_ordinal(attempt.cursor) + 1,
        records_out=attempt.cursor[1],
        counters=running.counters,
        skipped=skip_recorder.skipped() if skip_recorder else Skipped(),
        provenance=local_provenance(),
    )
    record = sealer.seal_map_manifest(manifest)
    shuffled, read = writer.sealed_bytes + len(record), amount_of(split)
    return Commit(attempt.task, token, record, shuffled=shuffled, read=read)


def run_reduce(attempt: Attempt) -> Commit:
    """Run one reduce attempt over exactly the map attempts that its basis names.

    Raises:
        StageClosed: the reduce stage closed.
        SegmentsMissing: segments are gone or forged.
        JobAltered: the job's code, or the map outputs, are not what was sealed.
        UserCodeError, SkipLimitExceeded: for the executor to report.
    """
    session, sealer, token = attempt.session, attempt.session.sealer, attempt.token
    program = session.load()
    outputs = session.map_outputs(attempt.basis)
    if outputs is None:
        raise StageClosed
    partition, skip_recorder = task_index(attempt.task), _skip_recorder(attempt, list, outputs)
    if skip_recorder:
        program = bad_records.with_skipping_reducefn(program, skip_recorder)
    attempt.writer = writer = OutputWriter(
        lambda p, chunk, data: sealer.seal_result_chunk(token, p, chunk, data),
        lambda parts: session.store.put_result(session.job, parts[partition], session.expire_at),
        token,
    )
    attempt.seed_random()
    here = context.Here(session.job, "reduce", attempt.task, f"partition {partition}")
    has_irregular_keys, records = False, 0
    with context.active_task(context.TaskContext(here, session.params)) as running:
        for block, is_irregular in _reduce_passes(attempt, program, outputs, partition):
            writer.write(partition, block)
            records += record_count(block)
            has_irregular_keys |= is_irregular
    inline = writer.finish().get(partition, ())
    part = writer.parts.get(partition, PartSize(0, records, writer.raw_bytes))
    manifest = ResultManifest(
        task=attempt.task,
        token=token,
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
    attempt.segments_read = [
        f"{m.token}.{chunk}" for _, m, chunk in staged_chunks(outputs, partition)
    ]
    record = sealer.seal_result_manifest(manifest)
    event = session.signed_event("partition", partition=partition)
    return Commit(attempt.task, token, record, attempt.basis, part.chunks, event=event)


def _reduce_passes(
    attempt: Attempt, program: Program, outputs: MapOutputs, partition: int
) -> Iterator[tuple[Block, bool]]:
    """Yield result blocks, each with True if it may hold a foreign or a repeated key."""
    session, partitions = attempt.session, attempt.session.spec.partitions
    passes = pass_count(session, outputs, partition)
    # A user's reducefn may emit a key twice; readers must know that to yield the key once.
    detector = DuplicateKeyDetector() if isinstance(program.reduce, GroupFunction) else None
    for i in range(passes):
        blocks = read_blocks(session, outputs, partition)
        yield from reduce_task(
            program, blocks, attempt.cursor, partition, partitions, SubPass(i, passes),
            duplicate_detector=detector,
        )  # fmt: skip


def _skip_recorder(
    attempt: Attempt, locate: bad_records.LocateRecords, outputs: MapOutputs | None = None
) -> bad_records.SkipRecorder | None:
    """Return the recorder of bad records or keys; None if the job may skip none.

    SkipLimitExceeded: all map tasks, of these outputs, together skipped more than the job may.
    """
    on_error, task = attempt.session.spec.on_error, attempt.task
    if on_error == "fail":
        return None
    before, records_in = (outputs.skipped, outputs.records_in) if outputs else (Skipped(), None)
    return bad_records.SkipRecorder(
        task_stage(task), task, on_error, locate, skipped_before=before, records_in=records_in
    )


def _crashing_records(attempt: Attempt) -> dict[int, Crash]:
    """Return the records in which two attempts lost their process; one loss may be chance."""
    session, tokens, crashes = attempt.session, dict[int, set[str]](), dict[int, Crash]()
    for token, blob in session.store.crash_notes(session.job, attempt.task):
        with contextlib.suppress(SealError):  # a forged note: then one more process dies
            crash = session.sealer.open_crash(attempt.task, token, blob)
            crashes[crash.ordinal] = crash
            tokens.setdefault(crash.ordinal, set()).add(token)
    return {ordinal: crashes[ordinal] for ordinal in crashes if len(tokens[ordinal]) > 1}
