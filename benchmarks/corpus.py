"""The texts that the benchmarks read: each in 32 files, at least 300 MB at full scale.

*Text* is the source of Linux 6.1 where Debian's package manager can fetch it, else the sources
of this Python's standard library and installed packages, repeated until there is enough. The
origin is stored in ``corpus.json`` beside the files and printed with every figure: repeated text
has fewer distinct words for its size, so figures of the two origins cannot be compared.
A smaller scale takes the beginning of each full file if there is one, and downloads nothing.

*Prose* has few distinct words, as a natural language has. It consists of those lines of the text
(comments, documentation) that hold only words and punctuation. Their order is shuffled again, with
a known seed, each time that all of them have been written.

*Growing text* is longer than the text: the text is repeated, each time with other identifiers
(``_`` becomes ``_2_``), so that there are always new distinct words.
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
"""Register tables written by a program: left out, because 200 MB of them are no text."""
PROSE_LINE = re.compile(
    r"^[\s*/#.-]*((?:[A-Za-z][a-z']*[,.;:]? ){5,}[A-Za-z][a-z']*[,.;:]?)\s*(?:\*/)?$", re.MULTILINE
)
"""A line of at least six words, without the characters that begin and end a comment."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder of text files, with their origin and size."""

    folder: str
    origin: str
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.bytes / 1e6:,.0f} MB in {self.files} files: {self.origin}"

    @property
    def paths(self) -> list[str]:
        """The paths of the files, in order."""
        return sorted(map(str, Path(self.folder).glob("*.txt")))


def text() -> Corpus:
    """Return real text with many distinct words."""
    return _read_corpus(make_once("text", _make_text))


def prose() -> Corpus:
    """Return real text with few distinct words."""
    return _read_corpus(make_once("prose", _make_prose))


def growing_text(megabytes: int) -> Corpus:
    """Return so many megabytes of text, times the scale, in files as large as those of the text."""
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
        beginning = file.read(scaled(FILE_BYTES)) + file.readline()
    return (folder / path.name).write_bytes(beginning)


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
    source = text()
    texts = (Path(path).read_text(encoding="utf-8") for path in source.paths)
    distinct_lines = dict.fromkeys(chain.from_iterable(map(PROSE_LINE.findall, texts)))
    lines = [f"{line}\n".encode() for line in distinct_lines]
    _write_description(folder, f"prose of {source.origin}", _write_files(folder, _shuffled(lines)))


def _shuffled(lines: list[bytes]) -> Iterator[bytes]:
    order = random.Random(0)
    while True:
        order.shuffle(lines)
        yield from lines


def _make_growing_text(megabytes: int, folder: Path) -> None:
    source = text()
    wanted_bytes, sizes, written_bytes = scaled(megabytes * 1_000_000), [], 0
    for number in count():
        repetition, place = divmod(number, TEXT_FILES)
        content = Path(source.paths[place]).read_bytes()
        if repetition:
            content = content.replace(b"_", b"_%d_" % (repetition + 1))
        if written_bytes + len(content) > wanted_bytes:
            content = content[: content.rindex(b"\n", 0, wanted_bytes - written_bytes + 1) + 1]
        sizes.append((folder / f"{number:03}.txt").write_bytes(content))
        written_bytes += len(content)
        if wanted_bytes - written_bytes < 1000:
            break
    _write_description(folder, f"{source.origin}, again with other identifiers", sizes)


def _texts(scratch: Path) -> tuple[str, Iterator[bytes]]:
    tarball = _linux_tarball(scratch) if scale() == 1 else None
    if tarball is not None:
        return f"{LINUX_PACKAGE} (Debian)", _utf8(_members(tarball))
    origin = f"Python {sys.version_info.major}.{sys.version_info.minor} sources, repeated"
    return origin, chain.from_iterable(repeat(tuple(_utf8(_python_sources()))))


def _linux_tarball(scratch: Path) -> Path | None:
    """Download Debian's package of the Linux source; return its tarball, or None without apt."""
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
            is_text = member.name.endswith(SUFFIXES) and GENERATED_FOLDER not in member.name
            file = tar.extractfile(member) if is_text and member.isfile() else None
            if file is not None:
                yield file.read()


def _python_sources() -> Iterator[bytes]:
    """Yield as many sources as the scale needs, those of the standard library first."""
    missing_bytes = TEXT_FILES * scaled(FILE_BYTES)
    for root in sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}):
        for path in sorted(Path(root).rglob("*.py")):
            if missing_bytes < 0:
                return
            source = path.read_bytes()
            missing_bytes -= len(source)
            yield source


def _utf8(texts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the texts that are UTF-8, each with a newline at its end."""
    for content in texts:
        try:
            content.decode()
        except UnicodeDecodeError:
            continue
        yield content + b"\n"


if __name__ == "__main__":
    print(text())
    print(prose())
