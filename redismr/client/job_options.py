"""Options of a job: functions apart from the rest, the sealed spec, the fields in clear text."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redismr import config
from redismr.client.results import Results
from redismr.confidential import SECRET_REMEDY, contains_secret
from redismr.config import JobOptionsDict
from redismr.core.annotations import Function
from redismr.core.model import MAX_JOB_AGE_MS, PROTOCOL, PYTHON, JobSpec
from redismr.core.status_rows import Progress
from redismr.errors import ConfigError
from redismr.shipping.libraries import loaded_versions
from redismr.sources import Source
from redismr.sources.protocol import expected_amount_of, unit_of

ProgressFunction = Callable[[Progress], None]

BYTES_PER_PARTITION = 5 << 20
"""Bytes of source for which redismr makes one partition, if two for each executor are fewer."""

MAX_DEFAULT_PARTITIONS = 256
"""Most partitions that redismr chooses by itself; the option allows more."""

PARTITIONS_WITHOUT_WORKERS = 16


class SubmitOptionsDict(JobOptionsDict, total=False):
    """Keyword arguments of ``Client.run`` and ``Client.submit``, which ``redismr.run`` explains."""

    combinefn: Function | str | None
    collectfn: Function | str | None  #: The ancestors' name of ``combinefn``.
    partitionfn: Callable[[Any, int], int] | None
    finishfn: Callable[[Results], Any] | None
    initfn: Callable[[], object] | None
    params: Mapping[str, Any] | None  #: For ``redismr.param`` in user functions.


@dataclass(frozen=True, slots=True)
class SubmitterState:
    """The facts about a job that only the submitting process knows."""

    finishfn: Callable[[Results], Any] | None = None
    partitionfn: Callable[[Any, int], int] | None = None
    #: Deletes the job, given its number of map tasks; None: the results do not own the job.
    delete: Callable[[int], object] | None = None
    show_progress: ProgressFunction | None = None
    wait_for_workers: float | None = None  #: Seconds until NoWorkers is raised; None: never.
    #: Starts the worker of a private server again, if it has died; None for other servers.
    restart_worker: Callable[[], None] | None = None


def split_options(
    mapfn: Function | None, reducefn: Function | str | None, options: SubmitOptionsDict
) -> tuple[dict[str, Any], Mapping[str, Any], config.JobOptions]:
    """Split what a caller gave by name into functions, and checked params and options."""
    remaining: dict[str, Any] = dict(options)
    names = ("combinefn", "partitionfn", "initfn", "finishfn")
    functions = {"mapfn": mapfn, "reducefn": reducefn, **{n: remaining.pop(n, None) for n in names}}
    collectfn = remaining.pop("collectfn", None)
    functions["combinefn"] = config.choose_combiner(functions["combinefn"], collectfn)
    params = config.check_params(remaining.pop("params", None))
    chosen_options = config.parse_job_options(remaining)
    for option in ("name", "txn"):  # both stand in clear text, and in every listing
        if contains_secret((getattr(chosen_options, option) or "").encode()):
            raise ConfigError(
                f"{option} holds a secret, or the password of a server. {SECRET_REMEDY}."
            )
    return functions, params, chosen_options


def new_spec(
    options: config.JobOptions,
    size: int | None,
    digest: str,
    functions: Mapping[str, Any],
    *,
    now_ms: int,
    executors: int,
) -> JobSpec:
    """Make the spec of a new job. If unknown, ``size`` (in bytes) is None, and ``executors`` 0."""
    job_id = new_job_id()
    same = ("sort", "retries", "lost_leases", "memory", "priority", "seed", "on_error")
    return JobSpec(
        **{name: getattr(options, name) for name in same},
        job_id=job_id,
        txn=options.txn or job_id,
        name=options.name or "",
        python=PYTHON,
        protocol=PROTOCOL,
        partitions=options.partitions or partitions_for(size, executors),
        code_digest=digest,
        # Only renewals, three in each lease, prolong the job: so a lease is shorter than the ttl.
        lease_ms=int(min(options.lease, options.ttl / 2) * 1000),
        task_timeout_ms=int(options.task_timeout * 1000) if options.task_timeout else None,
        ttl_ms=int(options.ttl * 1000),
        not_after_ms=now_ms + MAX_JOB_AGE_MS,
        finish=functions["finishfn"] is not None,
        partitionfn=functions["partitionfn"] is not None,
        backup=options.backup and not options.each_worker,
        libraries=loaded_versions(),
    )


def partitions_for(size: int | None, executors: int) -> int:
    """Choose a number of partitions: two for each executor, or one for 5 MB of source if more."""
    if not executors:
        return PARTITIONS_WITHOUT_WORKERS
    wanted = max(2 * executors, (size or 0) // BYTES_PER_PARTITION)
    return min(wanted, MAX_DEFAULT_PARTITIONS)


def scheduling_fields(spec: JobSpec, key_id: str) -> dict[str, str | int]:
    """Return the clear fields by which the scripts schedule a job; they may not differ later."""
    names = (
        "python",
        "protocol",
        "code_digest",
        "partitions",
        "retries",
        "lost_leases",
        "lease_ms",
    )
    fields = {name: getattr(spec, name) for name in names}
    return {**fields, "key_id": key_id, "skip_records": int(spec.on_error != "fail")}


def clear_fields(
    spec: JobSpec, key_id: str, source: Source, *, each_worker: bool
) -> dict[str, str | int]:
    """Return the fields that scheduling and progress rows need in clear text: hints, no more."""
    # With ``each_worker`` nobody knows how many splits will be read.
    expected = None if each_worker else expected_amount_of(source)
    return {
        "unit": unit_of(source),
        **({} if expected is None else {"expected": expected}),
        **scheduling_fields(spec, key_id),
        "priority": spec.priority,
        "backup": int(spec.backup),
        "each_worker": int(each_worker),
        "txn": spec.txn,
        "name": spec.name,
    }


def new_job_id() -> str:
    """Make a job id: the time in seconds (6 digits of base 36) and 64 random bits."""
    seconds, digits = int(time.time()), ""
    while seconds:
        seconds, digit = divmod(seconds, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return f"{digits}-{secrets.token_hex(8)}"
