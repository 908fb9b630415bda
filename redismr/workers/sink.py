"""Where an attempt's output goes: sealed chunks in Redis, or the manifest itself if it is small."""

from __future__ import annotations

from collections.abc import Callable

from redismr.core.codec import chunks_of, encode_block
from redismr.core.kernel import Block
from redismr.core.model import Part
from redismr.workers.process import end_if_forked

INLINE_BYTES = 4096
"""Outputs up to this many bytes travel inside the sealed manifest: no segment, no round trip.
Measured with 20,000 one-item tasks: see benchmarks/."""

FLUSH_BYTES = 4 << 20
"""Staged bytes that are sent together: bounds an executor's buffers, keeps round trips few."""


class Sink:
    """Turns blocks into sealed chunks, staged in batches; a small output stays here."""

    def __init__(
        self,
        seal: Callable[[int, int, bytes], bytes],
        put: Callable[[dict[int, dict[str, bytes]]], None],
        token: str,
    ) -> None:
        self._seal = seal
        self._put = put
        self._token = token
        self._small: dict[int, list[bytes]] | None = {}
        self._buffer: dict[int, dict[str, bytes]] = {}
        self._buffered = 0
        self._chunks: dict[int, int] = {}
        self._records: dict[int, int] = {}
        self._raw: dict[int, int] = {}
        self.raw_bytes = 0
        self.sealed_bytes = 0

    @property
    def parts(self) -> dict[int, Part]:
        """What was staged, by partition."""
        return {p: Part(n, self._records[p], self._raw[p]) for p, n in self._chunks.items()}

    def fields(self) -> dict[int, list[str]]:
        """The names of every chunk that may have been staged."""
        return {p: [f"{self._token}.{c}" for c in range(n)] for p, n in self._chunks.items()}

    def write(self, partition: int, block: Block) -> None:
        """Take one block of a partition; in order."""
        keys, values = block
        frame = encode_block(keys, values)
        self.raw_bytes += len(frame)
        self._records[partition] = self._records.get(partition, 0) + len(keys)
        self._raw[partition] = self._raw.get(partition, 0) + len(frame)
        if self._small is not None:
            self._small.setdefault(partition, []).append(frame)
            if self.raw_bytes > INLINE_BYTES:
                small, self._small = self._small, None
                for p, frames in small.items():
                    for held in frames:
                        self._stage(p, held)
        else:
            self._stage(partition, frame)

    def finish(self) -> dict[int, tuple[bytes, ...]]:
        """Send what is buffered; returns the frames of a small output, which was not staged."""
        self._flush()
        return {p: tuple(frames) for p, frames in (self._small or {}).items()}

    def _stage(self, partition: int, frame: bytes) -> None:
        for data in chunks_of(frame):
            chunk = self._chunks.get(partition, 0)
            self._chunks[partition] = chunk + 1
            blob = self._seal(partition, chunk, data)
            self._buffer.setdefault(partition, {})[f"{self._token}.{chunk}"] = blob
            self._buffered += len(blob)
            self.sealed_bytes += len(blob)
            if self._buffered >= FLUSH_BYTES:
                self._flush()

    def _flush(self) -> None:
        # Under the same names as its parent's, which may be counted already.
        end_if_forked()
        if self._buffer:
            self._put(self._buffer)
            self._buffer, self._buffered = {}, 0
