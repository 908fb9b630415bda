"""Count the words of Python's standard library, on every core of this machine: ``make demo``."""

import re
import sysconfig
import time
from pathlib import Path

import redismr

library = Path(sysconfig.get_path("stdlib"))
modules = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
source = redismr.files(modules, errors="replace")


def mapfn(path, text):
    redismr.count("files")
    redismr.count("characters", len(text))
    for word in re.findall(r"[A-Za-z_]+", text):
        yield word, 1


reducefn = sum


if __name__ == "__main__":
    started = time.monotonic()
    words = redismr.run(source, mapfn, reducefn, progress=True)
    for word, times in words.top(10):
        print(f"{times:9,} {word}")
    seconds = time.monotonic() - started
    files, characters = words.counters["files"], words.counters["characters"]
    print(
        f"{len(words):9,} different words in {files:,} files, {characters / 1e6:.0f} MB, "
        f"{seconds:.1f} s"
    )
