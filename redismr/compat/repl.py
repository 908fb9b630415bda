"""The fork's REPL: each line is a job over the files that it names, and many run at once."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import socket
import string
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import redismr
from redismr.errors import RedismrError

if TYPE_CHECKING:
    from redismr.client import Client, Job

AT_ONCE = 16
"""Transactions that may be in flight; further lines wait for one to end."""

_DROPPED = str.maketrans("", "", string.punctuation + string.digits)


def word_count(_path: object, text: str) -> Iterator[tuple[str, int]]:
    """The words of a text, in lower case, without digits and punctuation."""
    for word in text.lower().replace("--", " ").split():
        if word := word.translate(_DROPPED):
            yield word, 1


def statistics(number: int, _item: object) -> Iterator[tuple[int, tuple[str, str]]]:
    """What a worker tells about itself: its host, and the kind of its system."""
    yield number, (socket.gethostname(), os.name)


@dataclass(frozen=True)
class Work:
    """What is done with the files that a line names.

    ``kind`` is how they are read: files, text, lines, jsonl or csv. ``show`` prints an outcome
    under its heading; ``count`` says in that how much there is.
    """

    name: str
    functions: Mapping[str, Any]
    show: Callable[[Any], object]
    count: str = "{} results"
    kind: str = "files"
    options: Mapping[str, Any] = field(default_factory=dict)

    def source(self, line: str) -> Any:
        """The files; whole ones are read here, unless the line begins with @."""
        if self.kind != "files":
            return getattr(redismr, self.kind)(line.removeprefix("@"))
        return redismr.files(line.removeprefix("@"), ship=not line.startswith("@"))


def word_counter(top: int = 100) -> Work:
    """Counts words, and shows a table of at least ``top`` of them, if there are so many."""
    return Work(
        "Word Count",
        {"mapfn": word_count, "reducefn": "sum"},
        lambda counts: sys.stdout.writelines(table(counts, top)),
        f"top {top} of {{}} results",
    )


_STATS = Work(
    "Stats",
    {"mapfn": statistics, "reducefn": "first"},
    lambda told: sys.stdout.writelines(f"{n} : {what}\n" for n, what in sorted(told.items())),
    options={"each_worker": True},
)


class Repl:
    """Runs lines as transactions.

    ``page`` is entered to print something whole; ``complain`` prints an error there.
    """

    def __init__(
        self,
        client: Client,
        work: Work,
        page: Callable[[], contextlib.AbstractContextManager[object]],
        complain: Callable[[Exception], object],
    ) -> None:
        self._client, self._work, self._page, self._complain = client, work, page, complain
        self._numbers = itertools.count()
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._flying: list[threading.Thread] = []
        self._jobs: dict[int, Job] = {}
        self._cancelled = False

    def line(self, text: str) -> None:
        """Begin a transaction; its outcome is printed when it is there, under its number.

        An empty line asks every worker for its statistics.
        """
        self._room.acquire()
        number, text = next(self._numbers), text.strip()
        thread = threading.Thread(
            target=self._transact, args=(number, text), name=f"txn-{number}", daemon=True
        )
        self._flying = [*(each for each in self._flying if each.is_alive()), thread]
        thread.start()

    def drain(self) -> None:
        """Wait for all that is in flight."""
        for thread in self._flying:
            thread.join()

    def cancel(self) -> None:
        """Stop what is in flight."""
        self._cancelled = True
        for job in list(self._jobs.values()):
            with contextlib.suppress(RedismrError):
                job.delete()

    def _transact(self, number: int, line: str) -> None:
        work = self._work if line else _STATS
        title = f"Transaction {number}; {work.name};"
        try:
            with self._outcome(number, work, line) as outcome:
                found = len(outcome) if isinstance(outcome, Mapping) else 1
                with self._page():
                    sys.stdout.write(f"{title} {work.count.format(found)}:\n")
                    work.show(outcome)
        except Exception as error:  # noqa: BLE001  whatever the user's code raises: others go on
            if not self._cancelled:
                with self._page():
                    sys.stdout.write(f"{title} failed:\n")
                    self._complain(error)
        finally:
            self._room.release()

    @contextlib.contextmanager
    def _outcome(self, number: int, work: Work, line: str) -> Iterator[Any]:
        """What comes of the line; nothing if it names no file. Its job is deleted afterwards."""
        pattern = line.removeprefix("@")
        if line and not glob.glob(pattern, recursive=True) and not os.path.exists(pattern):
            yield {}
            return
        source = work.source(line) if line else itertools.count()
        label = {"name": work.name, **work.options, "txn": f"repl-{os.getpid()}-{number}"}
        job = self._jobs[number] = self._client.submit(source, **work.functions, **label)
        try:
            yield job.result()
        finally:
            del self._jobs[number]
            job.delete()


def table(counts: Mapping[str, int], top: int) -> Iterator[str]:
    """The largest counts in two columns: by name, backwards, and by count; rows end with lines.

    Of names that are as frequent it has all or none.
    """
    rising = sorted((count, name) for name, count in counts.items())
    bar = rising[-top:][:1]
    best = rising[bisect_left(rising, (bar[0][0], "")) :] if bar else []
    by_name = sorted(best, key=itemgetter(1), reverse=True)
    for (count, name), (other, another) in zip(by_name, best, strict=True):
        yield f"{count:8} {name:40.40} {other:8} {another}\n"
