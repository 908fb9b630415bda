"""Features and defaults that differ between versions of Python."""

from __future__ import annotations

import json
import sys

import pytest
from system.processes import run_command, write_script

T_STRINGS = sys.version_info >= (3, 14)
INTERPRETERS = sys.version_info >= (3, 13)


@pytest.fixture
def run_program(tmp_path):
    """Return a function that runs a script without a server, and parses its output as JSON."""

    def started(body, **modules):
        for name, text in modules.items():
            write_script(tmp_path, text, f"{name}.py")
        done = run_command(sys.executable, write_script(tmp_path, body), secret=None, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return started


def test_a_child_that_a_fork_server_started_submits(run_program):
    """Python's default from 3.14 on; in the child the script has another module name."""
    printed = run_program("""
        import json, multiprocessing, redismr
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Parity:
            rest: int

        def parity(n):
            return Parity(n % 2)

        def mapfn(n):
            yield parity(n), n

        def job(answers):
            client = redismr.Client(executors=1)
            result = client.run(range(5), mapfn, "sum")
            answers.put(sorted((key.rest, total) for key, total in result.items()))

        if __name__ == "__main__":
            context = multiprocessing.get_context("forkserver")
            answers = context.Queue()
            child = context.Process(target=job, args=(answers,))
            child.start()
            print(json.dumps(answers.get()))
            child.join()
    """)
    assert printed == [[0, 6], [1, 4]]


def test_a_mapfn_starts_processes_that_know_the_jobs_modules(run_program):
    """Also where Python's default is a fork server; the user's own choice is accepted."""
    printed = run_program(
        """
        import json, multiprocessing, redismr, helper
        from concurrent.futures import ProcessPoolExecutor

        def by_default(n):
            with ProcessPoolExecutor(1) as pool:
                yield n, list(pool.map(helper.double, [n]))

        def chosen(n):
            multiprocessing.set_start_method("spawn")
            yield n, multiprocessing.get_start_method()

        if __name__ == "__main__":
            client = redismr.Client(executors=1)
            print(json.dumps([dict(client.run([4], f, "first")) for f in (by_default, chosen)]))
        """,
        helper="""
        def double(n):
            return 2 * n
        """,
    )
    assert printed == [{"4": [8]}, {"4": "spawn"}]


SUBMITTED = """
import json, redismr

def mapfn(n):
    yield str(n % 2), n

for run, where in (redismr.Client(executors=1).run, {}), (redismr.run, {"inline": True}):
    print(json.dumps(dict(run(range(5), mapfn, "sum", **where))))
"""


def test_a_sub_interpreter_submits(run_program):
    """Run in a sub-interpreter, or in this interpreter where Python has none."""
    printed = run_program(f"""
        import io, json, os
        from contextlib import redirect_stdout
        text = {SUBMITTED!r}
        if {INTERPRETERS}:
            import _interpreters
            there, here = os.pipe()
            made = _interpreters.create()
            head = f"import os, sys; sys.stdout = os.fdopen({{here}}, 'w')\\n"
            failed = _interpreters.run_string(made, head + text + "sys.stdout.flush()")
            assert failed is None, failed
            _interpreters.destroy(made)
            lines = os.read(there, 1000).decode()
        else:
            with redirect_stdout(io.StringIO()) as printed:
                exec(text, {{"__name__": "__main__"}})
            lines = printed.getvalue()
        print(json.dumps([json.loads(line) for line in lines.splitlines()]))
    """)
    assert printed == [{"0": 6, "1": 4}] * 2


def test_template_strings_are_values(run_program):
    """A class with the same attributes stands in on older Pythons."""
    template = (
        't"{n} of {who}"' if T_STRINGS else 'Template(strings=("", " of ", ""), values=(n, who))'
    )
    printed = run_program(f"""
        import json, redismr
        from types import SimpleNamespace as Template
        who = "you"

        def mapfn(n):
            yield n, {template}

        def reducefn(key, values):
            return [template for template in values]

        said = []
        ours = redismr.Client(executors=1)
        for run, where in (ours.run, {{}}), (redismr.run, {{"inline": True}}):
            ((template,),) = run([1], mapfn, reducefn, **where).values()
            said.append([template.strings, template.values])
        print(json.dumps(said))
    """)
    assert printed == [[["", " of ", ""], [1, "you"]]] * 2
