"""The texts that the benchmarks read, each in 32 files, at least 300 MB at full scale.

*Text* is the source of Linux 6.1 where Debian's package manager can fetch it, else the sources
of this Python's standard library and installed packages, repeated until there is enough. Which
of the two it was is kept in ``corpus.json`` beside the files and printed with every figure:
repeated text has fewer distinct words for its size, so figures of the two do not compare.
A smaller scale takes the beginning of each file where full files are there, and fetches nothing.

*Prose* is what a natural language looks like to a word count: few distinct words. It is those
lines of the text (comments, documentation) that are nothing but words and punctuation, in an
order that is shuffled anew, with a known seed, each time that all of them have been written.

*Growing text* is longer than any we have: the text again and again, each time with other
identifiers (``_`` becomes ``_2_``), so that distinct words go on coming.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, repeat
from pathlib import Path

from benchmarks.cache import cache_folder, make_once, scale, scaled

__all__ = ["Corpus", "cache_folder", "growing_text", "prose", "text"]

TEXT_FILES = 32
FILE_BYTES = 10_000_000
LINUX_PACKAGE = "linux-source-6.1"
SUFFIXES = (".c", ".h", ".rst", ".txt", ".S", ".py")
GENERATED_FOLDER = "/drivers/gpu/drm/amd/include/"
"""Register tables written by a program: 200 MB of them would not be text."""
PROSE_LINE = re.compile(
    r"^[\s*/#.-]*((?:[A-Za-z][a-z']*[,.;:]? ){5,}[A-Za-z][a-z']*[,.;:]?)\s*(?:\*/)?$", re.MULTILINE
)
"""A line of at least six words, without what a comment begins and ends with."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A directory of text files, where the text came from, and how much of it there is."""

    folder: str
    origin: str
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.bytes / 1e6:,.0f} MB in {self.files} files: {self.origin}"

    @property
    def paths(self) -> list[str]:
        """The files, in order."""
        return sorted(map(str, Path(self.folder).glob("*.txt")))


def text() -> Corpus:
    """Real text of many distinct words."""
    return _read_corpus(make_once("text", _make_text))


def prose() -> Corpus:
    """Real text of few distinct words."""
    return _read_corpus(make_once("prose", _make_prose))


def growing_text(megabytes: int) -> Corpus:
    """So much text, or that much times the scale; files are as large as those of the text."""
    return _read_corpus(make_once(f"grown{megabytes}", partial(_make_growing_text, megabytes)))


def _read_corpus(folder: Path) -> Corpus:
    description = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    return Corpus(folder=str(folder), **description)


def _write_description(folder: Path, origin: str, sizes: list[int]) -> None:
    description = {"origin": origin, "files": len(sizes), "bytes": sum(sizes)}
    (folder / "corpus.json").write_text(json.dumps(description), encoding="utf-8")


def _make_text(folder: Path) -> None:
    full = cache_folder() / "text"
    if scale() < 1 and full.exists():
        origin = f"{_read_corpus(full).origin}, the beginning of each file"
        sizes = [_copy_beginning(path, folder) for path in sorted(full.glob("*.txt"))]
    else:
        origin, texts = _texts(folder.parent)
        sizes = _write_files(folder, texts)
    _write_description(folder, origin, sizes)


def _copy_beginning(path: Path, folder: Path) -> int:
    with path.open("rb") as file:
        some = file.read(scaled(FILE_BYTES)) + file.readline()
    return (folder / path.name).write_bytes(some)


def _write_files(folder: Path, texts: Iterator[bytes]) -> list[int]:
    sizes = []
    for number in range(TEXT_FILES):
        size = 0
        with (folder / f"{number:02}.txt").open("wb") as out:
            while size < scaled(FILE_BYTES):
                size += out.write(next(texts))
        sizes.append(size)
    return sizes


def _make_prose(folder: Path) -> None:
    base = text()
    found = (PROSE_LINE.findall(Path(path).read_text(encoding="utf-8")) for path in base.paths)
    lines = [f"{line}\n".encode() for line in dict.fromkeys(chain.from_iterable(found))]
    _write_description(folder, f"prose of {base.origin}", _write_files(folder, _shuffled(lines)))


def _shuffled(lines: list[bytes]) -> Iterator[bytes]:
    order = random.Random(0)
    while True:
        order.shuffle(lines)
        yield from lines


def _make_growing_text(megabytes: int, folder: Path) -> None:
    base = text()
    wanted, sizes, written = scaled(megabytes * 1_000_000), [], 0
    for number in count():
        again, place = divmod(number, TEXT_FILES)
        some = Path(base.paths[place]).read_bytes()
        if again:
            some = some.replace(b"_", b"_%d_" % (again + 1))
        if written + len(some) > wanted:
            some = some[: some.rindex(b"\n", 0, wanted - written + 1) + 1]
        sizes.append((folder / f"{number:03}.txt").write_bytes(some))
        written += len(some)
        if wanted - written < 1000:
            break
    _write_description(folder, f"{base.origin}, again with other identifiers", sizes)


def _texts(scratch: Path) -> tuple[str, Iterator[bytes]]:
    tarball = _linux_tarball(scratch) if scale() == 1 else None
    if tarball is not None:
        return f"{LINUX_PACKAGE} (Debian)", _utf8(_members(tarball))
    origin = f"Python {sys.version_info.major}.{sys.version_info.minor} sources, repeated"
    return origin, chain.from_iterable(repeat(tuple(_utf8(_python_sources()))))


def _linux_tarball(scratch: Path) -> Path | None:
    """Debian's package of the Linux source, unpacked as far as its tarball; None without apt."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    try:
        subprocess.run(["apt-get", "download", LINUX_PACKAGE], cwd=scratch, check=True)
        (package,) = scratch.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, scratch / "deb"], check=True)
    except (OSError, subprocess.CalledProcessError, ValueError) as exc:
        print(f"no {LINUX_PACKAGE}: {exc}", file=sys.stderr)
        return None
    return next((scratch / "deb/usr/src").glob("*.tar.xz"), None)


def _members(tarball: Path) -> Iterator[bytes]:
    with tarfile.open(tarball, "r|xz") as tar:
        for member in tar:
            wanted = member.name.endswith(SUFFIXES) and GENERATED_FOLDER not in member.name
            file = tar.extractfile(member) if wanted and member.isfile() else None
            if file is not None:
                yield file.read()


def _python_sources() -> Iterator[bytes]:
    """Enough of them: the standard library comes first, and a small scale reads no more."""
    enough = TEXT_FILES * scaled(FILE_BYTES)
    for root in sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}):
        for path in sorted(Path(root).rglob("*.py")):
            if enough < 0:
                return
            source = path.read_bytes()
            enough -= len(source)
            yield source


def _utf8(texts: Iterator[bytes]) -> Iterator[bytes]:
    """Only texts that are UTF-8, each ended by a newline."""
    for some in texts:
        try:
            some.decode()
        except UnicodeDecodeError:
            continue
        yield some + b"\n"


if __name__ == "__main__":
    print(text())
    print(prose())
