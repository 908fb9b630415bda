"""A proxy between workers and Redis that parses replies, and loses or delays them.

``python -m chaos.proxy LISTEN SERVER MODE SEED``: a process of its own between two unix sockets. A
line on its stdin is answered by one of JSON, what it has done so far; it ends with its stdin.

- eat: of 100 replies 3 are never delivered: their request was forwarded, and the connection is cut
  (every third time in the middle of the reply, with a part of it delivered). And of 1000 requests
  five are not forwarded: the connection is cut before.
- slow: what is read at once waits up to 20 ms, each way, then goes on in pieces of 1 to 100 bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

EATEN = 0.03
REFUSED = 0.005
DELAY = 0.02
PIECES = 50
"""Most pieces one read is cut into; what is left after them goes as one."""


class ConnectionCut(Exception):
    """Raised to cut the connection here."""


def end_of(buffer: bytes | bytearray, at: int = 0) -> int | None:
    """Return where the RESP2 value at ``at`` ends; None if it is incomplete."""
    wanted = 1
    while wanted:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        kind, head = buffer[at : at + 1], buffer[at + 1 : line]
        at, wanted = line + 2, wanted - 1
        if kind == b"*":
            wanted += max(0, int(head))
        elif kind == b"$" and int(head) >= 0:
            at += int(head) + 2
            if at > len(buffer):
                return None
    return at


class Proxy:
    """Forwards connections, with a fault of its own for each direction."""

    def __init__(self, upstream: str, mode: str, seed: str) -> None:
        self.upstream, self.slow = upstream, mode == "slow"
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until an end of it is cut."""
        try:
            theirs, ours = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            writer.close()
            return
        self.counts["connections"] += 1
        ways = (
            (self._dribble(reader, ours), self._dribble(theirs, writer))
            if self.slow
            else (self._requests(reader, ours), self._replies(theirs, writer))
        )
        pumps = [asyncio.ensure_future(way) for way in ways]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, ours):
            end.close()

    async def _requests(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            if self.random.random() < REFUSED:
                self.counts["refused"] += 1
                raise ConnectionCut
            to.write(data)
            await to.drain()

    async def _replies(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        while data := await source.read(1 << 16):
            buffer += data
            begin = 0
            while begin < len(buffer) and (end := end_of(buffer, begin)) is not None:
                self.counts["replies"] += 1
                if self.random.random() < EATEN:
                    part = 0
                    if self.random.random() < 1 / 3:
                        part = self.random.randrange(end - begin)
                    self.counts["torn" if part else "swallowed"] += 1
                    to.write(bytes(buffer[: begin + part]))
                    with contextlib.suppress(OSError):
                        await to.drain()
                    raise ConnectionCut
                begin = end
            to.write(bytes(buffer[:begin]))
            del buffer[:begin]
            await to.drain()

    async def _dribble(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            await asyncio.sleep(self.random.uniform(0, DELAY))
            at = 0
            for _ in range(PIECES):
                size = self.random.randint(1, 100)
                to.write(data[at : at + size])
                await to.drain()
                await asyncio.sleep(
                    0
                )  # so that each piece is a write, and may be a read, of its own
                self.counts["pieces"] += 1
                at += size
                if at >= len(data):
                    break
            to.write(data[at:])
            await to.drain()


async def run(listen: str, upstream: str, mode: str, seed: str) -> None:
    """Serve until stdin ends."""
    proxy = Proxy(upstream, mode, seed)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server = await asyncio.start_unix_server(proxy.serve, listen)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    print(json.dumps({}), flush=True)
    while await lines.readline():
        print(json.dumps(proxy.counts), flush=True)
    server.close()


class RunningProxy:
    """A running proxy of a row: its URL, and counts of what it did."""

    def __init__(self, upstream: Path, folder: Path, mode: str, seed: str) -> None:
        listen = folder / "proxy"
        listen.unlink(missing_ok=True)
        self.url = f"unix://{listen}?db=0"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.proxy", str(listen), str(upstream), mode, seed],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        self._answer()

    def counts(self) -> Counter[str]:
        """Return how often each fault was made."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return Counter(self._answer())

    def close(self) -> None:
        """End the proxy; every connection through it is cut."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(5)

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
