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
from redismr.config import parse_job_options, show_value
from redismr.errors import ConfigError
from redismr.sources.file_sources import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, ModuleType

MODULE_NAME = "__jobfile__"
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


def load_job_file(path: str) -> JobFile:
    """Run the file and collect what it defines.

    Its folder comes first on ``sys.path``, so that it imports its neighbours as a script does.

    Raises:
        ConfigError: it cannot be read, is no Python, or defines what no job can use.
        Exception: whatever its own code raises.
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
            **{name: names.get(name) for name in ("partitionfn", "initfn", "finishfn", "resultfn")},
        },
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
class ReadOptions:
    """How the command line says that files are read; None: as the job file does, or by default.

    ``kind`` is the name of a source: files, text, lines, jsonl or csv.
    """

    kind: str | None = None
    encoding: str | None = None
    errors: str | None = None

    @property
    def text_options(self) -> dict[str, str]:
        """What is said of the text in the files."""
        text_options = {"encoding": self.encoding, "errors": self.errors}
        return {name: value for name, value in text_options.items() if value is not None}

    @property
    def first_option(self) -> str:
        """The first option that was given, if any."""
        return f"--{self.kind}" if self.kind else next((f"--{o}" for o in self.text_options), "")

    def make_source(self, patterns: Any, settings_from: Any = None) -> Any:
        """A source of these files, with the settings of the source ``settings_from``, if that is of files.

        A source of another kind than ``kind`` has its encoding and error handler in common.
        """  # noqa: E501
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
    """The job's input: what the command line names, read as the file reads its own, else that.

    Raises:
        ConfigError: there is none; or ``read_options`` is about files, and it is of none.
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
        f"{read_options.first_option} says how files are read, and the source in {job.path} names no files"  # noqa: E501
    )


def _source_in_file(job: JobFile) -> Any:
    """What the file's ``source`` is, or returns."""
    if not inspect.isroutine(job.source):
        return job.source
    try:
        return job.source()
    except Exception as error:
        error.add_note(f"raised by source() in {job.path}, which says how its input is read")
        raise


def _load_module(path: str) -> ModuleType:
    """The file as a module under our name; nothing is cached on disk."""
    code = _compile(path)
    file = Path(path).resolve()
    loader = importlib.machinery.SourceFileLoader(MODULE_NAME, str(file))
    spec = importlib.machinery.ModuleSpec(MODULE_NAME, loader, origin=str(file))
    spec.has_location = True  # so that the module gets its __file__
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    sys.path.insert(0, str(file.parent))
    exec(code, vars(module))  # noqa: S102 - it is what a job file is for
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
        raise ConfigError(f"{path}: {name} is a {type(value).__name__}, and has to be a dict")
    return value
