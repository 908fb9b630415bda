"""``redismr.run``: the whole job in one call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any, Unpack

from redismr import config
from redismr.client.embedded import prestart
from redismr.core.annotations import Function, Pair
from redismr.engine.program import check_functions
from redismr.errors import ConfigError, RedismrError, TaskError
from redismr.process_guards import refuse_while_loading
from redismr.settings import is_debugging

if TYPE_CHECKING:
    from redismr.client.client import Client
    from redismr.client.job_options import ProgressFunction
    from redismr.client.results import Results


def run(  # noqa: PLR0913  the options of a job, each with a default
    source: Any,
    mapfn: Function | None = None,
    reducefn: Function | str | None = None,
    *,
    combinefn: Function | str | None = None,
    collectfn: Function | str | None = None,
    partitionfn: Callable[[Any, int], int] | None = None,
    finishfn: Callable[[Results], Any] | None = None,
    resultfn: Callable[[str, Any], object] | None = None,
    initfn: Callable[[], object] | None = None,
    params: Mapping[str, Any] | None = None,
    inline: bool = False,
    progress: ProgressFunction | bool | None = None,
    finish: bool = True,
    client: Client | None = None,
    **options: Unpack[config.JobOptionsDict],
) -> Any:
    """Run a MapReduce and return its result, equal to that of a sequential run.

    Each record counts exactly once, whatever is retried.

    Args:
        source: a glob or path (whole files), a mapping, any iterable, or what ``redismr.lines``
            and similar functions return.
        mapfn: ``mapfn(key, value)`` or ``mapfn(value)``: yields or returns pairs, a mapping, or
            None. None: each (key, value) of the source goes to the reducer.
        reducefn: ``f(key, values)`` returns the value; ``f(items)`` gets an iterator of
            (key, values) and yields pairs; or one of "sum count min max mean list set first any
            all". None: the values of each key, as a list in input order.
        combinefn: takes the same forms as ``reducefn``. Workers call combinefn with parts of a
            key's values, any number of times.
        collectfn: another name of ``combinefn``.
        partitionfn: ``f(key, partitions)`` -> 0..partitions-1, the same for equal keys, always and
            in every process: a key that comes out of two partitions ends the job.
        finishfn: ``f(results)``, called in this process; ``run`` returns what finishfn returns.
        resultfn: ``f(txn, results)``, called once, in this process.
        initfn: called in each worker process before the first task of the job.
        params: values for ``redismr.param`` in user functions.
        inline: True runs the job in this process, without Redis, so that breakpoint(), pdb and
            its post-mortem work.
        progress: True draws a progress bar, False draws none, None draws one on a terminal only; a
            callable is called with a ``Progress`` several times a second.
        finish: False returns the results without calling finishfn; finishfn still travels with the
            job, for callers that collect the result later.
        client: a ``Client`` to use; None makes one with ``Client()``.
        **options: the fields of ``redismr.config.JobOptionsDict``: name, txn, partitions, sort,
            on_error, retries, task_timeout, lease, lost_leases, memory, chunk, priority, seed,
            backup, each_worker, ttl, wait_for_workers, wait_for_server.

    Returns:
        ``Results``, a read-only mapping that fetches a few MB at a time as it is read. Closing it,
        or the end of this process, deletes the job. Forked children may read it too, as long as it
        is open here. The job stays on the server for its ttl after ``keep()``, and if finishfn or
        resultfn raises.

    Raises:
        MapError, ReduceError, SourceRaised: user code raised; the error is also an instance of the
            original class.
        ConfigError, SourceError, CodeError: an argument cannot be used; nothing was started.
        NoWorkers: no worker took the job within ``wait_for_workers`` seconds.
        RedismrError: see ``redismr.errors`` for the others.

    >>> def words(line):
    ...     for word in line.split():
    ...         yield word, 1
    >>> counts = run(["to be", "or not to be"], words, "sum", inline=True)
    >>> dict(counts)
    {'to': 2, 'be': 2, 'or': 1, 'not': 1}
    """
    functions = {
        "combinefn": config.choose_combiner(combinefn, collectfn),
        "partitionfn": partitionfn,
        "initfn": initfn,
    }
    try:
        _check_types(inline=inline, progress=progress, client=client)
        chosen_options = config.parse_job_options(options)
        params = config.check_params(params)
        check_functions(mapfn, reducefn, finishfn=finishfn, resultfn=resultfn, **functions)
    except ConfigError as exc:
        raise _without_frames(exc) from exc.__cause__
    if inline:
        try:
            outcome: Any = _run_in_this_process(
                source, mapfn, reducefn, functions, params, chosen_options
            )
        except TaskError as exc:
            if is_debugging():
                raise
            # The traceback ends where the user's code failed: pdb.pm() and the like begin there.
            cause = exc.__cause__
            raise exc.with_traceback(cause.__traceback__ if cause else None) from cause
        if finishfn and finish:
            outcome = finishfn(outcome)
        if resultfn:
            resultfn(chosen_options.txn or "inline", outcome)
        return outcome
    refuse_while_loading()
    if client is None:
        prestart()
    from redismr.client.client import Client

    try:
        with _open_progress(progress) as show_progress:
            return (client or Client()).run(
                source,
                mapfn,
                reducefn,
                finishfn=finishfn,
                resultfn=resultfn,
                params=params,
                progress=show_progress,
                finish=finish,
                **functions,
                **options,
            )
    except RedismrError as exc:
        raise _without_frames(exc) from exc.__cause__


def _without_frames(error: RedismrError) -> RedismrError:
    """Return the error without redismr's frames, which would push its text off the screen."""
    return error if is_debugging() else error.with_traceback(None)


def _check_types(*, inline: object, progress: object, client: object) -> None:
    """Refuse arguments of a wrong type, before a private server is started."""
    config.FLAG_RULE.check("inline", inline)
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ConfigError(
            f"progress={config.show_value(progress)} must be True, False, None or a function"
        )
    if client is not None and not callable(getattr(client, "run", None)):
        raise ConfigError(
            f"client={config.show_value(client)} must be a redismr.Client: redismr.Client(url) "
            "makes one"
        )


def _run_in_this_process(
    source: Any,
    mapfn: Function | None,
    reducefn: Function | str | None,
    functions: Mapping[str, Any],
    params: Mapping[str, Any],
    chosen_options: config.JobOptions,
) -> Results:
    from redismr.client.result_partitions import InMemoryPartitions, in_key_order
    from redismr.client.results import Results
    from redismr.engine.program import prepare_program
    from redismr.local import run_inline
    from redismr.sources import as_source

    if chosen_options.each_worker:
        from redismr.client.per_worker import FirstSplitOnly, as_per_worker_source

        source = FirstSplitOnly(as_per_worker_source(source, chosen_options.chunk))
    program = prepare_program(mapfn, reducefn, sort=chosen_options.sort, **functions)
    result = run_inline(
        as_source(source, chunk=None if chosen_options.each_worker else chosen_options.chunk),
        program,
        partitions=chosen_options.partitions or 0,
        params=params,
        sort=chosen_options.sort,
        seed=chosen_options.seed,
        on_error=chosen_options.on_error,
    )
    pairs: Iterable[Pair] = chain.from_iterable(result.partitions)
    return Results(
        InMemoryPartitions(in_key_order(pairs) if chosen_options.sort else pairs),
        sort=chosen_options.sort,
        counters=result.counters,
        skipped=result.skipped,
    )


def _open_progress(
    progress: ProgressFunction | bool | None,  # noqa: FBT001  as run() takes it
) -> AbstractContextManager[ProgressFunction | None]:
    if callable(progress):
        return nullcontext(progress)
    if progress is False:
        return nullcontext()
    from redismr.ui.progress import progress_display

    return progress_display(sys.stderr, always=progress is True)
