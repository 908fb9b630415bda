"""Job files: Python files whose names (mapfn, source and so on) define a job."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import redismr
from redismr.config import parse_job_options, show_value
from redismr.errors import ConfigError
from redismr.sources.file_sources import FileSource

MODULE_NAME = "__jobfile__"
"""The module name of a job file. Not ``__main__``: code under that guard must not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """The names that a job file defines."""

    path: str
    source: Any
    functions: Mapping[str, Any]  #: Arguments of ``redismr.run``; None if undefined.
    resultfn: Callable[[str, Any], object] | None  #: Called with the txn and the outcome.
    final: Callable[[Any, Any], object] | None  #: Called with key and value of each result.
    params: Mapping[str, Any]
    options: Mapping[str, Any]  #: Options of ``redismr.run``.
    server: str = ""  #: The host that serves the job, in a file written for octo.py.


def load_job_file(path: str) -> JobFile:
    """Run a job file, and return the names that it defines.

    The folder of the file comes first on ``sys.path``, so the file imports modules beside it as a
    script does. Errors of the file's own code are not changed.
    """
    with _refuse_self_started_job(path):
        names = vars(_load_module(path))
    job = JobFile(
        path=path,
        source=names.get("source", names.get("datasource")),
        functions={
            "mapfn": names.get("mapfn"),
            "reducefn": names.get("reducefn"),
            "combinefn": names.get("combinefn", names.get("collectfn")),
            **{name: names.get(name) for name in ("partitionfn", "initfn", "finishfn")},
        },
        resultfn=names.get("resultfn"),
        final=names.get("final"),
        params=_dict_defined_as(path, names, "params"),
        options=_dict_defined_as(path, names, "options"),
        server=str(names.get("server") or ""),
    )
    if job.functions["mapfn"] is None and job.functions["reducefn"] is None:
        raise ConfigError(f"{path} defines neither mapfn nor reducefn: it is no job file")
    if job.final is not None and job.functions["finishfn"] is not None:
        raise ConfigError(f"{path} defines both final and finishfn: keep one")
    try:
        parse_job_options(job.options)
    except ConfigError as error:
        raise ConfigError(f"{path}: options: {error}") from None
    if job.final is not None and not callable(job.final):
        raise ConfigError(f"{path}: final={show_value(job.final)} must be a function")
    return job


@contextmanager
def _refuse_self_started_job(path: str) -> Iterator[None]:
    """Refuse a script that calls ``redismr.run`` while it is loaded: there would be two jobs."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ConfigError(
            f"{path} runs its job by itself: start it with `python {path}`, or put the call of "
            'redismr.run under `if __name__ == "__main__":`'
        )

    run = redismr.run
    redismr.run = refuse
    try:
        yield
    finally:
        redismr.run = run


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the command line wants files to be read; None: as the job file's source does."""

    kind: str | None = None  #: The name of a source: files, text, lines, jsonl or csv.
    encoding: str | None = None  #: As of ``bytes.decode``.
    errors: str | None = None  #: The error handler, as of ``bytes.decode``.

    @property
    def text_options(self) -> dict[str, str]:
        """The options about the text in the files, if given."""
        text_options = {"encoding": self.encoding, "errors": self.errors}
        return {name: value for name, value in text_options.items() if value is not None}

    @property
    def first_option(self) -> str:
        """The first option that was given, as it is typed; empty if there is none."""
        return f"--{self.kind}" if self.kind else next((f"--{o}" for o in self.text_options), "")

    def make_source(self, patterns: Any, settings_from: Any = None) -> Any:
        """Return a source of the files that match ``patterns``.

        The new source takes its settings from ``settings_from`` if that is a source of files, and
        only the encoding and its error handler if that is of another kind.
        """
        options = self.text_options
        if isinstance(settings_from, FileSource):
            if self.kind in (None, settings_from.format.kind):
                return settings_from.with_patterns(patterns, **options)
            if settings_from.format.encoding is not None:
                text_format = settings_from.format.encoding
                options = {"encoding": text_format.name, "errors": text_format.errors} | options
        return getattr(redismr, self.kind or "files")(patterns, **options)


def job_source(
    job: JobFile, inputs: Sequence[str] = (), read_options: ReadOptions = ReadOptions()
) -> Any:
    """Return the source of the job: the ``inputs``, or the job file's own source if there are none.

    The inputs are read with the settings of the job file's source, if that is a source of files.
    """
    if inputs:
        return read_options.make_source(list(inputs), _source_in_file(job))
    if job.source is None:
        raise ConfigError(
            f"{job.path} has no source: name inputs after it, or set source = ... in it"
        )
    source = _source_in_file(job)
    if not read_options.first_option:
        return source
    if isinstance(source, FileSource):
        return read_options.make_source(source.patterns, source)
    if isinstance(source, str | os.PathLike):
        return read_options.make_source(source)
    raise ConfigError(
        f"{read_options.first_option} says how files are read, and the source in {job.path} names "
        "no files"
    )


def _source_in_file(job: JobFile) -> Any:
    if not inspect.isroutine(job.source):
        return job.source
    try:
        return job.source()
    except Exception as error:
        error.add_note(f"raised by source() in {job.path}, which says how its input is read")
        raise


def _load_module(path: str) -> ModuleType:
    """Load the file as the module ``MODULE_NAME``; nothing is cached on disk."""
    code = _compile(path)
    file = Path(path).resolve()
    loader = importlib.machinery.SourceFileLoader(MODULE_NAME, str(file))
    spec = importlib.machinery.ModuleSpec(MODULE_NAME, loader, origin=str(file))
    spec.has_location = True  # gives the module its __file__
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    sys.path.insert(0, str(file.parent))
    exec(code, vars(module))  # noqa: S102 - a job file is there to be run
    return module


def _compile(path: str) -> CodeType:
    try:
        source_code = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read job file {path}: {error.strerror}") from error
    try:
        return compile(source_code, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ConfigError(f"{path}{line} is not Python: {error.msg}") from error
    except ValueError as error:  # a null byte, before 3.12
        raise ConfigError(f"{path} is not Python: {error}") from error


def _dict_defined_as(path: str, names: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = names.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: {name} must be a dict, not {type(value).__name__}")
    return value
