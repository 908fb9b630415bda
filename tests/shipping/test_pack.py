from __future__ import annotations

import functools
import pickle
import sqlite3
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import redismr
from redismr.client.job_submission import JobSubmission
from redismr.errors import CodeError
from redismr.shipping import PackedCode, load_code, load_params, pack
from redismr.shipping.modules import (
    find_local_modules,
    imported_names,
    imported_names_in_code,
    is_local,
)
from redismr.user_warnings import Advice

Function = Callable[..., Any]


def main_function(source: str, name: str, **names: Any) -> Function:
    """Return a function as a script defines it: sent by value, with globals of its own."""
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, scope)  # noqa: S102
    return scope[name]  # type: ignore[no-any-return]


def test_the_digest_is_of_code_and_params() -> None:
    class Local:
        words = {"a", "b", "c"}

        def method(self) -> set[str]:
            return self.words

    def mapfn(key: object, value: object) -> Iterator[Any]:
        yield key, Local(), lambda: value

    functions = {"mapfn": mapfn, "reducefn": "sum"}
    first, second = pack(functions, {"a": 1}), pack(functions, {"a": 2})
    assert first.code == second.code and first.digest != second.digest
    assert pack(functions, {"a": 1}).digest == first.digest
    assert first.params != second.params
    assert pack({"mapfn": mapfn}).digest != first.digest
    loaded = load_code(first.code, first.params, worker=False)
    assert loaded.digest == first.digest and loaded.params == {"a": 1}
    assert load_params(second.params) == {"a": 2}
    assert load_params(b"") == {}


def test_functions_of_installed_modules_go_by_name() -> None:
    packed_code = pack({"mapfn": str.split, "reducefn": sum, "combinefn": max, "initfn": None})
    assert len(packed_code.code) < 500 + len(pack({}).code)
    loaded = load_code(packed_code.code, worker=False)
    assert loaded.functions["reducefn"] is sum and loaded.functions["mapfn"] is str.split


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "def mapfn(k, v):\n return conn.execute(v)",
            "it uses the global 'conn', a sqlite3.Connection",
        ),
        (
            "def mapfn(k, v):\n return [conn for _ in v]",
            "it uses the global 'conn', a sqlite3.Connection",
        ),
        (
            "def outer(c):\n def mapfn(k, v):\n  return c\n return mapfn\nmapfn = outer(conn)",
            "it uses the closure variable 'c', a sqlite3.Connection",
        ),
        (
            "def mapfn(k, v, c={'db': [conn]}):\n return c",
            "a default argument, in it the value at 'db', in it item 0, a sqlite3.Connection",
        ),
        (
            "def mapfn(k, v, *, c=conn):\n return c",
            "it uses the default of 'c', a sqlite3.Connection",
        ),
        (
            "def help(v):\n return conn\ndef mapfn(k, v):\n return help(v)",
            "it uses the global 'help', in it the global 'conn', a sqlite3.Connection",
        ),
        (
            "class A:\n def __init__(s):\n  s.c = conn\n def m(s, k, v):\n  pass\nmapfn = A().m",
            "the object it is a method of, in it the attribute 'c', a sqlite3.Connection",
        ),
        (
            "import functools\nmapfn = functools.partial(print, conn)",
            "it uses the argument 0 of a partial, a sqlite3.Connection",
        ),
        ("mapfn = (x for x in ())", "it is a generator"),
    ],
)
def test_an_unpicklable_variable_is_named_with_a_remedy(source: str, words: str) -> None:
    conn = sqlite3.connect(":memory:")
    mapfn = main_function(source, "mapfn", conn=conn)
    with pytest.raises(CodeError) as caught:
        pack({"reducefn": "sum", "mapfn": mapfn})
    conn.close()
    message = str(caught.value)
    assert message.startswith("mapfn cannot be sent to workers: ")
    assert words in message
    assert "which does not pickle (cannot pickle" in message
    assert "initfn, or inside the function" in message
    assert caught.value.__cause__ is not None


def test_a_mock_is_refused_on_the_submitter() -> None:
    """A mock pickles, but the loaded mock answers each access with another mock, without end."""
    mapfn = main_function("def mapfn(k, v):\n  return get(v)", "mapfn", get=mock.Mock())
    with pytest.raises(CodeError, match=r"global 'get', a unittest.mock.Mock, .* a function in"):
        pack({"mapfn": mapfn})


def test_params_that_do_not_pickle() -> None:
    with pytest.raises(CodeError, match=r"params\['lock'\] cannot be .* a _thread.lock, which"):
        pack({"mapfn": len}, {"fine": 1, "lock": threading.Lock()})


def test_a_class_of_main_that_does_not_pickle_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    bad, good = (type(name, (), {"__module__": "__main__"}) for name in ("Bad", "Good"))
    bad.lock = threading.Lock()  # type: ignore[attr-defined]
    vars(main).update(Bad=bad, Good=good, Alias=good)
    monkeypatch.setitem(sys.modules, "__main__", main)
    loaded = load_code(pack({"mapfn": len}).code, worker=False)
    assert loaded.script_namespaces.get_script_class("__main__", "Good").__name__ == "Good"
    with pytest.raises(AttributeError, match="Bad"):
        loaded.script_namespaces.get_script_class("__main__", "Bad")
    mapfn = main_function("def mapfn(k, v):\n return Bad", "mapfn", Bad=bad)
    with pytest.raises(CodeError, match=r"the global 'Bad', in it the attribute 'lock'"):
        pack({"mapfn": mapfn})


def test_big_closures_and_params_are_warned_of() -> None:
    table = {"x": "y" * 11_000_000}
    small = "s"

    def mapfn(key: object, value: object) -> object:
        return table, small

    with pytest.warns(UserWarning, match=r"functions .* 11 MB.* variable 'table' of mapfn, 11 MB"):
        pack({"mapfn": mapfn})
    with pytest.warns(UserWarning, match=r"params .* 11 MB.* table, 11 MB"):
        pack({"mapfn": len}, {"table": table})


@pytest.mark.parametrize("how", ["redismr.run", "client.run", "client.submit"])
def test_large_code_is_warned_of_once_where_the_job_begins(how: str, monkeypatch: Any) -> None:
    class Packed(Exception):
        """Raised after the warning: the rest of the run is not needed."""

    def stop(*_: object, **__: object) -> None:
        raise Packed

    monkeypatch.setattr("redismr.client.job_submission.as_per_worker_source", stop)
    monkeypatch.setattr("redismr.client.job_submission.as_source", stop)
    client = redismr.Client.__new__(redismr.Client)
    connection: Any = types.SimpleNamespace(remember_secrets=lambda: None)
    nothing: Any = None
    client._submission = JobSubmission(connection, nothing, nothing, nothing, nothing)
    begin = {
        "redismr.run": functools.partial(redismr.run, client=client, progress=False),
        "client.run": client.run,
        "client.submit": client.submit,
    }[how]
    with pytest.warns(Advice, match="table") as warned, pytest.raises(Packed):
        begin([1], len, "sum", params={"table": "y" * 11_000_000})
    expected = [__file__, sys._getframe().f_lineno - 1]
    assert [[warning.filename, warning.lineno] for warning in warned] == [expected]


def test_a_warning_points_at_the_caller() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pack({"mapfn": len}, {"table": "y" * 11_000_000})
    assert caught[0].filename == __file__


def test_many_threads_may_pack() -> None:
    packed_codes: list[PackedCode] = []
    mapfn = main_function("def mapfn(k, v):\n return k", "mapfn")
    threads = [
        threading.Thread(target=lambda: packed_codes.append(pack({"mapfn": mapfn})))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({packed_code.digest for packed_code in packed_codes}) == 1


def test_another_format_is_refused() -> None:
    with pytest.raises(CodeError, match="same version of redismr"):
        load_code(pickle.dumps({"format": 99}))


def test_imported_names() -> None:
    source = """
import a.b, c as d
from e import f as g
from . import h
from ..i.j import k
from m import *
def fun():
    import n
"""
    expected = {"a.b", "c", "e", "e.f", "p.q", "p.q.h", "p.i.j", "p.i.j.k", "m", "n"}
    assert imported_names(source, "p.q") == expected
    assert imported_names("from .x import y", "") == set()
    assert imported_names("not python", "p") == set()
    body = "def fun():\n" + "".join(f" {line}\n" for line in source.split("\n") if "*" not in line)
    code = compile(body, "x", "exec")
    assert set(imported_names_in_code(code, "p.q")) == expected - {"m"}


def test_only_the_users_modules_are_shipped() -> None:
    names = ["json", "sys", "builtins", "cloudpickle", "redismr.shipping", "redis", "no.such", ""]
    assert find_local_modules(names, []) == {}
    assert not is_local(functools.__file__)
    assert is_local(__file__)
    assert __name__ in find_local_modules([__name__], [])
