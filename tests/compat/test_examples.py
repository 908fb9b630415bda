"""``examples/ancestors`` print what the originals printed, and end with 0.

They name the default port, so that they read as they should; here a ``sitecustomize`` of the test
gives that name a free port, and the files run as they are.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import socket
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support import REPOSITORY, eventually
from system.processes import shell_env

import redismr
from redismr.cli import SUBCOMMANDS

if TYPE_CHECKING:
    from pathlib import Path

    from compat.conftest import Sandbox
    from system.processes import Process

ANCESTORS = REPOSITORY / "examples" / "ancestors"

HUMPTY = {
    "Humpty": 3, "a": 2, "Dumpty": 2, "King's": 2, "the": 2, "on": 1, "great": 1, "again": 1,
    "wall": 1, "men": 1, "had": 1, "all": 1, "together": 1, "horses": 1, "All": 1, "Couldn't": 1,
    "fall": 1, "and": 1, "put": 1, "sat": 1,
}  # fmt: skip


def load_example_module(name: str) -> Any:
    """Load a module that the examples share."""
    spec = importlib.util.spec_from_file_location(name, ANCESTORS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def count_in_loop(pattern: str, *, endings: str = "") -> Counter[str]:
    """Count words in a plain loop."""
    texts = load_example_module("texts")
    source = texts.Texts(pattern)
    found = [w for name in source for w, _ in texts.words(name, source[name])]
    return Counter(re.sub(f"({endings})$", "", word) for word in found)


def expected_table(counts: Counter[str], *, backwards: bool = False) -> str:
    """Return all rows: words by name on the left, by count on the right."""
    left = sorted(counts, reverse=backwards)
    right = sorted(counts, key=lambda word: (counts[word], word))
    rows = zip(left, right, strict=True)
    return "".join(f"{counts[a]:8d} {a:40s} {counts[b]:8d} {b}\n" for a, b in rows)


@pytest.fixture
def start_example(sandbox: Sandbox, tmp_path: Path) -> Any:
    """Starts an example, or another script, with another default port."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"from redismr.compat import hosting\nhosting.MINCEMEAT_PORT = {sandbox.port}\n"
    )

    def start(name: str | Path) -> Process:
        path = (ANCESTORS / name).with_suffix(".py")
        return sandbox.start(path, PYTHONPATH=f"{site}:{REPOSITORY}")

    return start


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def output_of(process: Process) -> str:
    """Wait for exit status 0; return what was printed, without remarks of script and redismr."""
    assert process.wait() == 0, process.log
    lines = process.log.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("redismr: "))


def test_mf_example_prints_one_dict_of_20_words(sandbox: Sandbox, start_example: Any) -> None:
    sandbox.worker()
    output = output_of(start_example("word_count"))
    assert ast.literal_eval(output) == HUMPTY
    assert output.count("\n") == 1


def test_pk_maponly_finish_prints_two_columns(sandbox: Sandbox, start_example: Any) -> None:
    """collectfn runs on the workers, finishfn on the server; there is no reducefn."""
    sandbox.worker()
    assert output_of(start_example("maponly_finish")) == expected_table(count_in_loop("*.txt"))


def test_pk_election_makes_one_of_two_the_server(start_example: Any) -> None:
    """The port is the lock: the process that binds it prints, the others work."""
    both = [start_example("election"), start_example("election")]
    output = sorted(output_of(process) for process in both)
    assert output == ["", expected_table(count_in_loop("*moon*.txt", endings="'s|'ll|'d|'ve"))]


def test_pk_election_takes_plain_workers(sandbox: Sandbox, start_example: Any) -> None:
    """The worker command works for an elected server too."""
    server = start_example("election")
    server.wait_for_output("Connection refused")
    sandbox.worker()
    assert output_of(server) == expected_table(count_in_loop("*moon*.txt", endings="'s|'ll|'d|'ve"))


def test_pk_election_ends_with_an_error_of_its_datasource(sandbox: Sandbox) -> None:
    """The error may be an OSError, and so look like a port that is taken."""
    elected = sandbox.start(
        sandbox.write_script(f"""
        import runpy, sys
        from redismr.compat import hosting
        hosting.MINCEMEAT_PORT = {sandbox.port}
        sys.path.insert(0, {str(ANCESTORS)!r})
        import texts

        def unreadable(source, name):
            raise PermissionError("no way")

        texts.Texts.__getitem__ = unreadable
        runpy.run_path({str(ANCESTORS / "election.py")!r}, run_name="__main__")
        """)
    )
    assert elected.wait() == 1
    assert "PermissionError" in elected.log


def test_pk_masterless_completes_alone(start_example: Any) -> None:
    """A client runs in the main thread, a server in another thread of the same process."""
    assert output_of(start_example("masterless")) == expected_table(count_in_loop("*.txt"))


def test_pk_masterless_has_one_server_however_often_the_script_tries(sandbox: Sandbox) -> None:
    """A client that does not reach the server of its process at once must not start another one."""
    ran = sandbox.start(
        sandbox.write_script(f"""
        import runpy, sys
        from redismr.compat import hosting
        hosting.MINCEMEAT_PORT = {sandbox.port}
        from redismr.compat import mincemeat

        tries, conn = [], mincemeat.Client.conn

        def late(client, **credentials):
            tries.append(client)
            if len(tries) != 2:
                conn(client, **credentials)

        mincemeat.Client.conn = late
        sys.path.insert(0, {str(ANCESTORS)!r})
        runpy.run_path({str(ANCESTORS / "masterless.py")!r}, run_name="__main__")
        """)
    )
    assert output_of(ran) == expected_table(count_in_loop("*.txt"))


@pytest.mark.parametrize("name", ["masterless", "daemon"])
def test_pk_client_only_copies_print_nothing_and_end_with_0(
    name: str, sandbox: Sandbox, start_example: Any
) -> None:
    """The originals ended with 1, or crashed, where another process was the server."""
    server = start_example("maponly_finish")
    eventually(lambda: is_listening(sandbox.port))
    assert output_of(start_example(name)) == ""
    assert output_of(server) == expected_table(count_in_loop("*.txt"))


def test_pk_daemon_prints_the_top_of_a_fast_job(start_example: Any) -> None:
    """The original printed nothing for tiny data."""
    counts = count_in_loop("*.txt")
    bar = sorted(counts.values())[-100]
    top = Counter({word: n for word, n in counts.items() if n >= bar})
    title = f"Transaction None; top 100 of {len(counts)} results:\n"
    assert output_of(start_example("daemon")) == title + expected_table(top, backwards=True)


def test_pk_repl_counts_the_texts_of_the_examples() -> None:
    """The REPL runs several transactions, one of them for each worker; the end of input ends it."""
    done = subprocess.run(
        [sys.executable, "-m", "redismr", "repl", "-n", "2"], cwd=ANCESTORS, env=shell_env(),
        input="texts/*.txt\n@texts/*moon*.txt\n\n", capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    titles = sorted(line for line in done.stdout.splitlines() if line.startswith("Transaction"))
    counts = r"Transaction \d; Word Count; top 100 of [1-9]\d* results:"
    assert [bool(re.fullmatch(counts, title)) for title in titles] == [True, True, False]
    assert titles[2] == "Transaction 2; Stats; 1 results:"


def test_oc_triangular_numbers_run_by_the_command_line(sandbox: Sandbox) -> None:
    """final is called for each key, in order."""
    done = sandbox.run("-m", "redismr", "run", "-n", "2", ANCESTORS / "triangular.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{k} {k * (k + 1) // 2}\n" for k in range(100))


def test_oc_triangular_numbers_by_octo_server_and_client(sandbox: Sandbox) -> None:
    """The server ends after final; the client waits for the next server."""
    port = ["-P", str(sandbox.port)]
    server = sandbox.start("-m", "redismr", "octo", "server", ANCESTORS / "triangular.py", *port)
    client = sandbox.start("-m", "redismr", "octo", "client", "localhost", *port)
    eventually(lambda: server.popen.poll() is not None, 20, server.log)
    assert output_of(server) == "".join(f"{k} {k * (k + 1) // 2}\n" for k in range(100))
    assert client.popen.poll() is None


def test_both_programs_of_the_document_print_the_same(sandbox: Sandbox, start_example: Any) -> None:
    """The old program and the new one print the same."""
    document = (REPOSITORY / "docs" / "ancestors.md").read_text(encoding="utf-8")
    sandbox.worker()
    programs = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    output = [
        output_of(start_example(sandbox.write_script(body, f"p{n}.py")))
        for n, body in enumerate(programs)
    ]
    two_lines = "Humpty Dumpty sat on a wall Humpty Dumpty had a great fall"
    assert [ast.literal_eval(out) for out in output] == [Counter(two_lines.split())] * 2


def test_the_document_names_what_exists() -> None:
    document = (REPOSITORY / "docs" / "ancestors.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`redismr ([a-z]+)", document)) - set(SUBCOMMANDS) == set()
    names = set(re.findall(r"`redismr\.([A-Za-z]+)[`(]", document))
    assert {name for name in names if not hasattr(redismr, name)} == set()


def test_ancestors_are_short_and_listed() -> None:
    readme = (ANCESTORS / "README.md").read_text(encoding="utf-8")
    for path in ANCESTORS.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 50, path.name
        assert path.name in readme
