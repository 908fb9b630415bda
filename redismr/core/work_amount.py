"""How much there is to do in a job, and how much is done: for people, no result depends on it.

Tasks differ: those of items grow, files have sizes. So what is counted here are items or bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

WORK_UNITS = frozenset({"items", "bytes", "tasks"})


@dataclass(slots=True)
class InputAmount:
    """The input of a job as far as it was handed in: its amount, and its heaviest task.

    ``ahead`` is the amount of the tasks before the heaviest one, ``index`` that task's. It grows:
    a new one for each task would cost the submitter a tenth of what a task of one item does.
    """

    total: int = 0
    heaviest: int = 0
    index: int = 0
    ahead: int = 0

    def add(self, index: int, amount: int) -> None:
        """Take in the task ``index``, which comes after all others.

        >>> input_amount = InputAmount()
        >>> for index, amount in enumerate((3, 5, 5)):
        ...     input_amount.add(index, amount)
        >>> input_amount
        InputAmount(total=13, heaviest=5, index=1, ahead=3)
        """
        if amount > self.heaviest:
            self.heaviest, self.index, self.ahead = amount, index, self.total
        self.total += amount

    def __str__(self) -> str:
        """As it lies in Redis."""
        return f"{self.total} {self.heaviest} {self.index} {self.ahead}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the amount that ``str`` wrote; an empty one for any other text.

        Anybody who reaches Redis may write such a text.

        >>> InputAmount.parse("13 5 1 3") == InputAmount(13, 5, 1, 3)
        True
        >>> InputAmount.parse("13 x") == InputAmount()
        True
        """
        words = text.split(" ")
        if len(words) != 4 or not all(w.isdecimal() and w.isascii() and len(w) < 16 for w in words):
            return cls()
        return cls(*map(int, words))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """How much of a stage is done, of one moment. Clear text of the server: a hint for people.

    Attributes:
        unit: what ``done`` and ``total`` count: "items", "bytes" or "tasks".
        done: the amount of the finished tasks.
        total: the amount of all tasks, None while that is not known.
        spent: executor-seconds that the finished tasks took.
        busy: executors that are at a task; -1 where there are too many to look at.
        since: seconds for which they are at it, together.
        least: the same of the one that began last.
        tasks: how many tasks there are, None while that is not known.
        tasks_done: how many of them are finished.
        tasks_begun: ... or begun.
        heaviest, index, ahead: the heaviest task, as of ``InputAmount``.
    """

    unit: str = "tasks"
    done: int = 0
    total: int | None = None
    spent: float = 0.0
    busy: int = 0
    since: float = 0.0
    least: float = 0.0
    tasks: int | None = None
    tasks_done: int = 0
    tasks_begun: int = 0
    heaviest: int = 0
    index: int = 0
    ahead: int = 0
