"""Count the words of one line: the hello world of a job file, ``redismr run hello.py``."""

from collections.abc import Iterator

source = ["hello world hello"]
reducefn = "sum"


def mapfn(_number: int, line: str) -> Iterator[tuple[str, int]]:
    """Emit each word once for each time that the line has it."""
    for word in line.split():
        yield word, 1
