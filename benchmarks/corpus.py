"""The text that the benchmarks read: at least 300 MB of real text in 32 files, made once.

The text is the source of Linux 6.1 where Debian's package manager can fetch it, else the sources
of this Python's standard library and installed packages, repeated until there is enough. Which
of the two it was is kept in ``corpus.json`` beside the files and printed with every figure:
repeated text has fewer distinct words for its size, so figures of the two do not compare.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

FILES = 32
FILE_BYTES = 10_000_000
PACKAGE = "linux-source-6.1"
SUFFIXES = (".c", ".h", ".rst", ".txt", ".S", ".py")
GENERATED = "/drivers/gpu/drm/amd/include/"
"""Register tables written by a program: 200 MB of them would not be text."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A directory of text files, where the text came from, and how much of it there is."""

    folder: str
    origin: str
    files: int
    bytes: int

    @property
    def pattern(self) -> str:
        """A glob that matches exactly the files of the corpus."""
        return f"{self.folder}/*.txt"


def corpus() -> Corpus:
    """The corpus, made on first use; it lives in ``$REDISMR_BENCH_CACHE`` or the user's cache."""
    folder = cache() / "text"
    card = folder / "corpus.json"
    if not card.exists():
        _build(folder)
    return Corpus(folder=str(folder), **json.loads(card.read_text(encoding="utf-8")))


def cache() -> Path:
    """Where the benchmarks keep what they have made or fetched once."""
    given = os.environ.get("REDISMR_BENCH_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "redismr-benchmarks"


def _build(folder: Path) -> None:
    """Write into a folder beside the final one and rename: never half a corpus."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "text"
        made.mkdir()
        origin, texts = _texts(Path(scratch))
        total = _write(made, texts)
        card = {"origin": origin, "files": FILES, "bytes": total}
        (made / "corpus.json").write_text(json.dumps(card), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _write(folder: Path, texts: Iterator[bytes]) -> int:
    total = 0
    for number in range(FILES):
        size = 0
        with (folder / f"{number:02}.txt").open("wb") as out:
            while size < FILE_BYTES:
                size += out.write(next(texts))
        total += size
    return total


def _texts(scratch: Path) -> tuple[str, Iterator[bytes]]:
    tarball = _linux_tarball(scratch)
    if tarball is not None:
        return f"{PACKAGE} (Debian)", _utf8(_members(tarball))
    origin = f"Python {sys.version_info.major}.{sys.version_info.minor} sources, repeated"
    return origin, chain.from_iterable(repeat(tuple(_utf8(_python_sources()))))


def _linux_tarball(scratch: Path) -> Path | None:
    """Debian's package of the Linux source, unpacked as far as its tarball; None without apt."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    try:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=scratch, check=True)
        (package,) = scratch.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, scratch / "deb"], check=True)
    except (OSError, subprocess.CalledProcessError, ValueError) as exc:
        print(f"no {PACKAGE}: {exc}", file=sys.stderr)
        return None
    return next((scratch / "deb/usr/src").glob("*.tar.xz"), None)


def _members(tarball: Path) -> Iterator[bytes]:
    with tarfile.open(tarball, "r|xz") as tar:
        for member in tar:
            wanted = member.name.endswith(SUFFIXES) and GENERATED not in member.name
            file = tar.extractfile(member) if wanted and member.isfile() else None
            if file is not None:
                yield file.read()


def _python_sources() -> Iterator[bytes]:
    roots = sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")})
    for path in sorted({path for root in roots for path in Path(root).rglob("*.py")}):
        yield path.read_bytes()


def _utf8(texts: Iterator[bytes]) -> Iterator[bytes]:
    """Only texts that are UTF-8, each ended by a newline."""
    for text in texts:
        try:
            text.decode()
        except UnicodeDecodeError:
            continue
        yield text + b"\n"


if __name__ == "__main__":
    print(corpus())
