"""Hello, world: the words of one line counted. A job file: ``redismr run hello.py``."""

from collections.abc import Iterator

source = ["hello world hello"]
reducefn = "sum"


def mapfn(_number: int, line: str) -> Iterator[tuple[str, int]]:
    """Each word, once for each time it stands there."""
    for word in line.split():
        yield word, 1
