"""The savings of round trips to the server, explained in one place.

A round trip costs 50 us on one machine and a millisecond between two, and a job of one small task
consists of little else. Nothing below changes what is stored or counted: each saving has a slower
way, and whoever cannot use the saving takes that way.

1. **Piggyback** (``Piggyback``): plain commands travel in the round trip of a script, before or
   behind it: ``create`` announces and lists its job, ``add`` wakes workers, the ``cancel`` of a
   deletion unlinks the job's keys. A refused command is sent again by itself.
2. **Publishing in scripts**: ``create`` and ``commit`` publish their events themselves
   (``StageEvents``).
3. **Commit and claim**: a commit claims the executor's next tasks (``CommitReply.claim``).
4. **Spec with the claim** (``claim(include_spec=True)``, ``Claim.sealed_job``): an executor that
   has no session of the job gets the sealed spec with its tasks, and code and params too if they
   are small (``SENT_WITH_CLAIM_BYTES``). Otherwise the session reads them.
5. **Map outputs with the commit** (``CommitReply.map_outputs``): the commit that opens the reduce
   stage of a small job (``SMALL_SHUFFLE_BYTES``, ``SMALL_JOB_MAPS``) answers what the reducers of
   its claim read. Otherwise, and for every other basis, the session asks ``Store.map_outputs``.
   All reduce tasks of a small job may go to one executor in one claim.
6. **One worker for few tasks** (``SMALL_JOB_TASKS``, ``Claim.wake_count``): the submitter of few
   tasks wakes one worker, and the executor that claims first wakes others for what it leaves.
7. **Many jobs at once** (``RetryingClient.call_each``): ``renew_all`` and ``reclaim_all`` run their
   script for each job in one round trip. An altered key of one job is the answer for that job only.
8. **Results with the status** (``status(with_results=True)``): the status of a job that has
   succeeded brings its results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Argument = str | bytes | int
RedisCommand = Sequence[Argument]

SMALL_JOB_TASKS = 8
"""A job whose first tasks are at most so many wakes one worker (point 6). With two executors on two
cores a job of eight items took 0.91 of the time, and 0.87 of the processor time: before, the second
executor had looked in vain."""


@dataclass(frozen=True, slots=True)
class Piggyback:
    """Plain commands in the round trip of a script (point 1).

    The script and the commands are independent: a refusal of one does not affect the others. The
    commands may be sent twice.
    """

    commands_before: Sequence[RedisCommand] = ()  #: Sent before the script.
    commands_after: Sequence[RedisCommand] = ()  #: Sent after it.
    on_refused: Callable[[], object] = lambda: None
    """Called if the script was done and a command behind it was refused."""


NO_PIGGYBACK = Piggyback()
