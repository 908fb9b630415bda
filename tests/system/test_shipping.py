"""Code travels to workers that have none of the script's files."""

from __future__ import annotations

import json
import sys

import pytest
from system.processes import redismr_cli, run_command, write_script


@pytest.fixture
def run_program(tmp_path, server, shared_worker):
    """Return a function that runs a script in its own folder, and parses its output as JSON."""

    def started(body, *, name="script.py"):
        folder = tmp_path / "home"
        folder.mkdir(exist_ok=True)
        done = run_command(
            sys.executable, write_script(folder, body, name), url=server.url, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return started


def test_functions_of_a_script(run_program):
    printed = run_program("""
        import json, redismr
        TIMES = 2
        def double(n):
            return n * TIMES
        def mapfn(n):
            yield n, double(n)
        print(json.dumps(sorted(redismr.run([1, 2], mapfn, "first").items())))
    """)
    assert printed == [[1, 2], [2, 4]]


def test_closures_lambdas_and_imports(run_program):
    printed = run_program("""
        import json, math, redismr
        from collections import Counter as C
        def make(base):
            return lambda n: [(n, math.pow(base, n))]
        run = lambda f: sorted(redismr.run([1, 2], f, "first").items())
        print(json.dumps([run(make(3)), run(lambda n: C([n, n]))]))
    """)
    assert printed == [[[1, 3], [2, 9]], [[1, 2], [2, 2]]]


def test_dataclasses_of_the_script_as_keys_and_values(run_program):
    printed = run_program("""
        import json, redismr
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Place:
            name: str
            def shout(self):
                return self.name.upper()
        class Box:
            def __init__(self, n):
                self.n = n
        results = redismr.run(["a", "b", "a"], lambda s: [(Place(s), Box(1))], chunk=1)
        assert results[Place("a")][0].n == 1
        assert all(type(key) is Place for key in results)
        print(json.dumps(sorted((key.shout(), len(v)) for key, v in results.items())))
    """)
    assert printed == [["A", 2], ["B", 1]]


def test_modules_beside_the_script(run_program, tmp_path):
    folder = tmp_path / "home"
    (folder / "tools").mkdir(parents=True)
    write_script(
        folder, "def clean(s):\n    import deeper\n    return deeper.low(s)\n", "helper.py"
    )
    write_script(folder, "def low(s):\n    return s.lower()\n", "deeper.py")
    write_script(folder / "tools", "from .part import two\n", "__init__.py")
    write_script(folder / "tools", "two = 2\n", "part.py")
    printed = run_program("""
        import json, redismr
        import helper, tools
        def mapfn(s):
            from tools.part import two
            yield helper.clean(s), two * tools.two
        print(json.dumps(dict(redismr.run(["A"], mapfn, "sum"))))
    """)
    assert printed == {"a": 4}


def test_exceptions_of_the_script_are_caught_by_class(run_program):
    printed = run_program("""
        import json, redismr
        class Odd(Exception):
            pass
        def mapfn(n):
            raise Odd(f"n is {n}")
        try:
            redismr.run([7], mapfn, "sum", retries=0)
        except Odd as error:
            print(json.dumps([isinstance(error, redismr.MapError), "n is 7" in str(error)]))
    """)
    assert printed == [True, True]


def test_an_edited_script_runs_in_its_new_form(run_program):
    body = 'import json, redismr\nprint(json.dumps(dict(redismr.run([1], lambda n: [("n", {})]))))'
    assert run_program(body.format(1)) == {"n": [1]}
    assert run_program(body.format(2)) == {"n": [2]}


def test_a_global_that_does_not_pickle_is_named(client):
    import threading

    import redismr

    lock = threading.Lock()
    with pytest.raises(redismr.CodeError, match=r"mapfn.*lock"):
        client.submit([1], lambda x: [(x, lock)], "sum")
    assert client.jobs() == []


JOB = """
    from dataclasses import dataclass
    @dataclass(frozen=True)
    class Word:
        text: str
    source = ["a b", "b"]
    def mapfn(text):
        for word in text.split():
            yield Word(word), 1
    reducefn = "sum"
"""


def test_another_process_collects_by_id(tmp_path, server, shared_worker):
    job_id = redismr_cli("submit", write_script(tmp_path, JOB), url=server.url).stdout.strip()
    printed = redismr_cli("result", job_id, "--wait", "--json", url=server.url, cwd="/")
    assert printed.stderr == ""
    assert sorted(printed.stdout.splitlines()) == [
        "[\"Word(text='a')\", 1]", "[\"Word(text='b')\", 2]"
    ]  # fmt: skip


def test_another_process_collects_what_a_script_submitted(run_program, tmp_path, server):
    job_id = run_program("""
        import json, redismr
        class Pair:
            def __init__(self, n):
                self.n = n
            def __repr__(self):
                return f"Pair({self.n})"
        job = redismr.Client().submit([1, 2], lambda n: [(n, Pair(n))], "first", sort=True)
        print(json.dumps(job.id))
    """)
    printed = redismr_cli("result", job_id, "--wait", url=server.url, cwd="/")
    assert printed.stdout == "1\tPair(1)\n2\tPair(2)\n", printed.stderr


def test_module_state_is_that_of_the_submitter(run_program, tmp_path):
    """Each job sees the modules' values at its submission, although the workers are the same."""
    folder = tmp_path / "home"
    folder.mkdir()
    write_script(folder, "RATE = 1\nKINDS = {}\ndef price(x):\n    return x * RATE\n", "prices.py")
    printed = run_program("""
        import json, redismr, prices
        def mapfn(n):
            yield n, [prices.price(n), prices.KINDS.get("double", str)(n)]
        def double(n):
            return n * TWO
        TWO = 2
        seen = []
        for prices.RATE in (1, 3, 1):
            for inline in (False, True):
                seen.append(sorted(redismr.run([1, 2], mapfn, "first", inline=inline).items()))
            prices.KINDS["double"] = double
        print(json.dumps(seen))
    """)
    assert printed[0::2] == printed[1::2]
    assert printed[0::2] == [
        [[1, [1, "1"]], [2, [2, "2"]]],
        [[1, [3, 2]], [2, [6, 4]]],
        [[1, [1, 2]], [2, [2, 4]]],
    ]


def test_values_with_slots_are_fetched(run_program):
    """Values of a mapfn and of the source; classes that are not used fail no job."""
    printed = run_program("""
        import json, redismr
        from dataclasses import dataclass
        @dataclass(slots=True)
        class Point:
            x: int
        @dataclass(frozen=True, slots=True)
        class Key:
            x: int
        class Plain:
            __slots__ = ("x", "__secret")
            def __init__(self, x):
                self.x, self.__secret = x, x + 1
            def secret(self):
                return self.__secret
        class More(Plain):
            pass
        class Base:
            def __init_subclass__(cls, *, tag):
                cls.tag = tag
        class Unused(Base, tag="x"):
            pass
        def mapfn(n, item):
            yield Key(n), [Point(n), Plain(n), More(item.secret())]
        found = redismr.run({1: Plain(5), 2: More(6)}, mapfn, "first")
        seen = {k.x: [v[0].x, v[1].secret(), v[2].secret()] for k, v in found.items()}
        assert all(not hasattr(v[0], "__dict__") for v in found.values())
        print(json.dumps(sorted(seen.items())))
    """)
    assert printed == [[1, [1, 2, 7]], [2, [2, 3, 8]]]
