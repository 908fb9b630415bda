"""A job file: a Python file that says what to run by the names it defines."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redismr
from redismr.config import job_options, shown
from redismr.errors import ConfigError
from redismr.sources.filesource import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, ModuleType

MODULE = "__jobfile__"
"""The name a job file is loaded under: not ``__main__``, so what is under that guard stays put."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """What a job file defines. ``functions`` are the keyword arguments of ``redismr.run``.

    ``server`` is the host that serves it, where it is one of octo.py's.
    """

    path: str
    source: Any
    functions: Mapping[str, Any]
    final: Callable[[Any, Any], object] | None
    params: Mapping[str, Any]
    options: Mapping[str, Any]
    server: str = ""


def load(path: str) -> JobFile:
    """Run the file and collect what it defines.

    Its folder comes first on ``sys.path``, so that it imports its neighbours as a script does.

    Raises:
        ConfigError: it cannot be read, is no Python, or defines what no job can use.
        Exception: whatever its own code raises.
    """
    with _not_running_by_itself(path):
        names = vars(_module(path))
    job = JobFile(
        path=path,
        source=names.get("source", names.get("datasource")),
        functions={
            "mapfn": names.get("mapfn"),
            "reducefn": names.get("reducefn"),
            "combinefn": names.get("combinefn", names.get("collectfn")),
            **{name: names.get(name) for name in ("partitionfn", "initfn", "finishfn", "resultfn")},
        },
        final=names.get("final"),
        params=_mapping(path, names, "params"),
        options=_mapping(path, names, "options"),
        server=str(names.get("server") or ""),
    )
    if job.functions["mapfn"] is None and job.functions["reducefn"] is None:
        raise ConfigError(f"{path} defines neither mapfn nor reducefn: it is no job file")
    if job.final is not None and job.functions["finishfn"] is not None:
        raise ConfigError(f"{path} defines both final and finishfn: keep one")
    try:
        job_options(job.options)
    except ConfigError as error:
        raise ConfigError(f"{path}: options: {error}") from None
    if job.final is not None and not callable(job.final):
        raise ConfigError(f"{path}: final={shown(job.final)} must be a function")
    return job


@contextmanager
def _not_running_by_itself(path: str) -> Iterator[None]:
    """Refuse a script that runs its job as it is loaded: there would be two jobs."""

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
class Reading:
    """How the command line says that files are read; None: as the job file does, or by default.

    ``kind`` is the name of a source: files, text, lines, jsonl or csv.
    """

    kind: str | None = None
    encoding: str | None = None
    errors: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """What is said of the text in the files."""
        said = {"encoding": self.encoding, "errors": self.errors}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def first(self) -> str:
        """The first option that was given, if any."""
        return f"--{self.kind}" if self.kind else next((f"--{o}" for o in self.options), "")

    def files(self, patterns: Any, like: Any = None) -> Any:
        """A source of these files, with the settings of the source ``like``, if that is of files.

        A source of another kind than ``kind`` has its encoding and error handler in common.
        """
        options = self.options
        if isinstance(like, FileSource):
            if self.kind in (None, like.format.kind):
                return like.over(patterns, **options)
            if like.format.encoding is not None:
                text = like.format.encoding
                options = {"encoding": text.name, "errors": text.errors} | options
        return getattr(redismr, self.kind or "files")(patterns, **options)


def source_of(job: JobFile, inputs: Sequence[str] = (), reading: Reading = Reading()) -> Any:
    """The job's input: what the command line names, read as the file reads its own, else that.

    Raises:
        ConfigError: there is none; or ``reading`` is about files, and it is of none.
    """
    if inputs:
        return reading.files(list(inputs), _own_source(job))
    if job.source is None:
        raise ConfigError(
            f"{job.path} has no source: name inputs after it, or set source = ... in it"
        )
    source = _own_source(job)
    if not reading.first:
        return source
    if isinstance(source, FileSource):
        return reading.files(source.patterns, source)
    if isinstance(source, str | os.PathLike):
        return reading.files(source)
    raise ConfigError(
        f"{reading.first} says how files are read, and the source in {job.path} names no files"
    )


def _own_source(job: JobFile) -> Any:
    """What the file's ``source`` is, or returns."""
    if not inspect.isroutine(job.source):
        return job.source
    try:
        return job.source()
    except Exception as error:
        error.add_note(f"raised by source() in {job.path}, which says how its input is read")
        raise


def _module(path: str) -> ModuleType:
    """The file as a module under our name; nothing is cached on disk."""
    code = _compiled(path)
    file = Path(path).resolve()
    loader = importlib.machinery.SourceFileLoader(MODULE, str(file))
    spec = importlib.machinery.ModuleSpec(MODULE, loader, origin=str(file))
    spec.has_location = True  # so that the module gets its __file__
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    sys.path.insert(0, str(file.parent))
    exec(code, vars(module))  # noqa: S102 - it is what a job file is for
    return module


def _compiled(path: str) -> CodeType:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read job file {path}: {error.strerror}") from error
    try:
        return compile(text, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ConfigError(f"{path}{line} is not Python: {error.msg}") from error
    except ValueError as error:  # a null byte, before 3.12
        raise ConfigError(f"{path} is not Python: {error}") from error


def _mapping(path: str, names: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = names.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: {name} is a {type(value).__name__}, and has to be a dict")
    return value
