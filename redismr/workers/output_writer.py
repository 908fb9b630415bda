"""Writes an attempt's output: into sealed chunks in Redis, or, if small, into the manifest."""

from collections.abc import Callable

from redismr.core.codec import encode_block, record_count, split_frame
from redismr.core.model import PartSize
from redismr.engine.kernel import Block
from redismr.workers.process_setup import end_if_forked

INLINE_BYTES = 4096
"""Largest output, in encoded bytes, that travels inside the sealed manifest. Such an output needs
no segment and no round trip."""

OUTPUT_FLUSH_BYTES = 4 << 20
"""Sealed bytes that are sent together. Bounds an executor's buffer and keeps round trips few."""


class OutputWriter:
    """Turns blocks into sealed chunks, staged in batches; keeps a small output in memory."""

    def __init__(
        self,
        seal: Callable[[int, int, bytes], bytes],
        put: Callable[[dict[int, dict[str, bytes]]], None],
        token: str,
    ) -> None:
        self._seal, self._put, self._token = seal, put, token
        #: Frames by partition while the output is small; None once chunks are staged.
        self._inline_frames: dict[int, list[bytes]] | None = {}
        #: Sealed chunks that are not sent yet: partition -> chunk name -> chunk.
        self._buffer: dict[int, dict[str, bytes]] = {}
        self._buffered = self.raw_bytes = self.sealed_bytes = 0
        # By partition.
        self._chunk_counts: dict[int, int] = {}
        # Not Counters: these take 1.6 us of a one-item task.
        self._record_counts: dict[int, int] = {}
        self._partition_raw_bytes: dict[int, int] = {}

    @property
    def parts(self) -> dict[int, PartSize]:
        """Sizes of the staged output, by partition."""
        return {
            p: PartSize(n, self._record_counts[p], self._partition_raw_bytes[p])
            for p, n in self._chunk_counts.items()
        }

    def chunk_names(self) -> dict[int, list[str]]:
        """Return the names of all chunks that may have been staged, by partition."""
        return {p: [f"{self._token}.{c}" for c in range(n)] for p, n in self._chunk_counts.items()}

    def write(self, partition: int, block: Block) -> None:
        """Take the next block of a partition."""
        frame = encode_block(block)
        self.raw_bytes += len(frame)
        self._record_counts[partition] = self._record_counts.get(partition, 0) + record_count(block)
        raw_bytes = self._partition_raw_bytes.get(partition, 0) + len(frame)
        self._partition_raw_bytes[partition] = raw_bytes
        if self._inline_frames is None:
            self._stage(partition, frame)
            return
        self._inline_frames.setdefault(partition, []).append(frame)
        if self.raw_bytes > INLINE_BYTES:
            inline_frames, self._inline_frames = self._inline_frames, None
            for p, frames in inline_frames.items():
                for inline_frame in frames:
                    self._stage(p, inline_frame)

    def finish(self) -> dict[int, tuple[bytes, ...]]:
        """Send the buffered chunks; return the frames of a small output, which was not staged."""
        self._flush()
        return {p: tuple(frames) for p, frames in (self._inline_frames or {}).items()}

    def _stage(self, partition: int, frame: bytes) -> None:
        for data in split_frame(frame):
            chunk = self._chunk_counts.get(partition, 0)
            self._chunk_counts[partition] = chunk + 1
            blob = self._seal(partition, chunk, data)
            self._buffer.setdefault(partition, {})[f"{self._token}.{chunk}"] = blob
            self._buffered += len(blob)
            self.sealed_bytes += len(blob)
            if self._buffered >= OUTPUT_FLUSH_BYTES:
                self._flush()

    def _flush(self) -> None:
        # A forked child would overwrite its parent's chunks, which may be committed already.
        end_if_forked()
        if self._buffer:
            self._put(self._buffer)
            self._buffer, self._buffered = {}, 0
