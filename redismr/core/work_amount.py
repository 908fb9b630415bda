"""The amount of work in a job, in items or bytes, because tasks differ in size.

It is a hint for people; no result depends on it.
"""

from dataclasses import dataclass
from typing import Self

WORK_UNITS = frozenset({"items", "bytes", "tasks"})


@dataclass(slots=True)
class InputAmount:
    """The input of a job as far as it was added: its amount, and its heaviest task.

    A new object for each task would cost the submitter a tenth of the time of a one-item task.
    """

    total: int = 0  #: Amount of all tasks.
    heaviest: int = 0  #: Amount of the heaviest task.
    index: int = 0  #: Index of the heaviest task.
    ahead: int = 0  #: Amount of all tasks before the heaviest one.

    def add(self, index: int, amount: int) -> None:
        """Add the task ``index``, which comes after all others.

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
        """Return the text that is stored in Redis."""
        return f"{self.total} {self.heaviest} {self.index} {self.ahead}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the amount that ``str`` wrote; an empty one for what others wrote into Redis.

        >>> InputAmount.parse("13 5 1 3"), InputAmount.parse("13 x") == InputAmount()
        (InputAmount(total=13, heaviest=5, index=1, ahead=3), True)
        """
        words = text.split(" ")
        if len(words) != 4 or not all(w.isdecimal() and w.isascii() and len(w) < 16 for w in words):
            return cls()
        return cls(*map(int, words))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """The progress of one stage at one moment. Clear text of the server: a hint for people."""

    unit: str = "tasks"  #: What ``done`` and ``total`` count: "items", "bytes" or "tasks".
    done: int = 0  #: Amount of the tasks that are done.
    total: int | None = None  #: Amount of all tasks; None while unknown.
    spent: float = 0.0  #: Executor-seconds that the done tasks took.
    busy: int = 0  #: Executors that run a task; -1 if they are too many to look at.
    since: float = 0.0  #: Seconds that the running tasks have run so far, together.
    least: float = 0.0  #: Seconds that the latest of them has run.
    tasks: int | None = None  #: How many tasks there are; None while unknown.
    tasks_done: int = 0  #: Tasks that are done.
    tasks_begun: int = 0  #: Tasks that are done or running.
    heaviest: int = 0  #: The heaviest task, as in ``InputAmount``.
    index: int = 0  #: See ``InputAmount``.
    ahead: int = 0  #: See ``InputAmount``.
