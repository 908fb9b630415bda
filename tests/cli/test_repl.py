"""The output of ``redismr repl``, run as a real process."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from support import Server, eventually
from system.processes import SECRET, Processes, shell_env, write_script

import redismr
from redismr.cli.cmd_repl import word_count_job
from redismr.compat.wordcount_demo import count_table, word_count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPL = (sys.executable, "-m", "redismr", "repl")


@pytest.fixture
def text_folder(tmp_path: Path) -> Path:
    """A folder with two texts."""
    (tmp_path / "a.txt").write_text("The cat -- the dog\nthe end 1\n")
    (tmp_path / "b.txt").write_text("Cat!\n")
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server, as REDISMR_URL names one."""
    server = Server("valkey")
    yield server
    server.close()


@pytest.fixture
def processes(server: Server, tmp_path: Path) -> Iterator[Processes]:
    """The workers of the server."""
    processes = Processes(server.url, tmp_path / "processes")
    yield processes
    processes.close()


def run_repl(folder, typed, *options, url=None, **env):
    """Run a REPL with ``typed`` as its standard input."""
    return subprocess.run(
        [*REPL, "-n", "2", *options], input=typed, cwd=folder, capture_output=True, text=True,
        timeout=60, check=False,
        env=shell_env(url, SECRET if url else None, HOME=str(folder), **env),
    )  # fmt: skip


def transactions(output):
    """Return the transactions in an output: number -> (heading, lines)."""
    outcomes = {}
    for line in output.splitlines():
        if line.startswith("Transaction "):
            number, heading = line.removeprefix("Transaction ").split("; ", 1)
            outcomes[int(number)] = (heading, rows := [])
        else:
            rows.append(line)
    return outcomes


class ReplTerminal:
    """A REPL on a pseudo-terminal of its own."""

    def __init__(self, folder, *options, url=None):
        self._controller_fd, terminal_fd = pty.openpty()
        env = shell_env(url, SECRET if url else None, HOME=str(folder), TERM="dumb")
        self.process = subprocess.Popen(
            [*REPL, "-n", "2", *options], stdin=terminal_fd, stdout=terminal_fd, stderr=subprocess.STDOUT,  # noqa: E501
            cwd=folder, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(terminal_fd)
        os.set_blocking(self._controller_fd, False)
        self.screen = ""

    def type(self, text):
        os.write(self._controller_fd, text.encode())

    def wait_for(self, text, timeout=30):
        """Wait until the screen has the text, and return the screen."""
        eventually(lambda: text in self._read(), timeout, f"{text!r} not in {self.screen!r}")
        return self.screen

    def _read(self):
        with contextlib.suppress(BlockingIOError, OSError):
            while more := os.read(self._controller_fd, 65536):
                self.screen += more.decode()
        return self.screen

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._controller_fd)


@pytest.fixture
def terminal(text_folder):
    """A function that starts a REPL on a terminal."""
    started = []

    def start(*options, url=None):
        started.append(ReplTerminal(text_folder, *options, url=url))
        return started[-1]

    yield start
    for repl_terminal in started:
        repl_terminal.close()


def test_repl_counts_the_words_of_each_line_under_its_transaction(text_folder):
    finished = run_repl(text_folder, "*.txt\n@b.txt\n")
    assert finished.returncode == 0, finished.stderr
    outcomes = transactions(finished.stdout)
    assert outcomes[0] == (
        "Word Count; top 100 of 4 results:",
        [
            "       3 the                                             1 dog",
            "       1 end                                             1 end",
            "       1 dog                                             2 cat",
            "       2 cat                                             3 the",
        ],
    )
    row = "       1 cat                                             1 cat"
    assert outcomes[1] == ("Word Count; top 100 of 1 results:", [row])


def test_repl_lists_names_that_match_no_file(text_folder):
    """The REPL goes on; the exit code is that of the first line that failed, in order of lines."""
    finished = run_repl(text_folder, "b.txt none* 'no such.txt'\nb.txt\n@\n'b.txt\n")
    assert finished.returncode == 2
    outcomes = transactions(finished.stdout)
    assert [outcomes[number][0] for number in (0, 2, 3)] == ["Word Count; failed:"] * 3
    assert outcomes[1][0] == "Word Count; top 100 of 1 results:"
    messages = sorted(finished.stderr.splitlines())
    assert messages == [
        'redismr: cannot tell the names in "\'b.txt" apart: No closing quotation',
        "redismr: no file is named",
        f"redismr: nothing matches 'none*', 'no such.txt' in {text_folder}",
    ]


def test_repl_a_line_may_have_several_names(text_folder):
    (text_folder / "two words.txt").write_text("cat\n")
    lines = ["a.txt b.txt", "@~/b.* ~/a.txt", "two words.txt", "'two words.txt' b.txt", "*.txt"]
    finished = run_repl(text_folder, "\n".join(lines))
    assert finished.returncode == 0, finished.stderr
    cats = [
        dict(map(str.split, (row[:32] for row in rows))) for _, rows in _in_order(finished.stdout)
    ]
    assert [next(n for n, w in counts.items() if w == "cat") for counts in cats] == list("22123")


def _in_order(output):
    return [outcome for _, outcome in sorted(transactions(output).items())]


def test_repl_an_empty_line_asks_every_worker(server, processes, text_folder):
    for executors in (1, 2, 1):
        processes.worker(executors)
    with redismr.Client(server.url, secret=SECRET) as client:
        eventually(lambda: len(client.workers()) == 3)
        finished = run_repl(text_folder, "\n", url=server.url)
        assert finished.returncode == 0, finished.stderr
        heading, rows = transactions(finished.stdout)[0]
        assert heading == "Stats; 3 results:"
        host = (os.uname().nodename, "posix")
        assert rows == [f"{number} : {host}" for number in range(3)]
        assert not client.jobs()


WAITS_FOR_GATE = """
import os, time

def mapfn(path, text):
    while path.endswith("a.txt") and not os.path.exists("gate"):
        time.sleep(0.01)
    yield path, len(text)

reducefn = "sum"
"""


def test_repl_shows_the_prompt_while_transactions_run(text_folder, terminal):
    screen = terminal(str(write_script(text_folder, WAITS_FOR_GATE)))
    screen.wait_for("Which files?  eg. '*.txt<enter>'")
    screen.wait_for("GLOB> ")
    screen.type("a.txt\n")
    screen.type("b.txt\n")
    assert "Transaction 0" not in screen.wait_for("Transaction 1; script; 1 results:")
    (text_folder / "gate").touch()
    screen.wait_for("Transaction 0; script; 1 results:")
    screen.type("\x04")
    assert screen.process.wait(30) == 0


def test_repl_keeps_a_history_of_lines(text_folder, terminal):
    first = terminal()
    first.wait_for("GLOB> ")
    first.type("b.txt\n")
    first.wait_for("Transaction 0;")
    first.type("\x04")
    assert first.process.wait(30) == 0
    assert "b.txt" in (text_folder / ".redismr_history").read_text()
    second = terminal()
    second.wait_for("GLOB> ")
    second.type("\x10\n")  # the line before: Ctrl-P
    second.wait_for("Transaction 0; Word Count; top 100 of 1 results:")


@pytest.fixture
def start_repl(server, text_folder):
    """A function that starts a REPL on the server with one line, and leaves the input open."""
    started = []

    def start(line, *options):
        process = subprocess.Popen(
            [*REPL, *options], stdin=subprocess.PIPE, cwd=text_folder, env=shell_env(server.url)
        )
        started.append(process)
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()


def test_repl_ctrl_c_cancels_running_jobs(server, processes, text_folder, start_repl):
    processes.worker(2)
    process = start_repl("a.txt", str(write_script(text_folder, WAITS_FOR_GATE)))
    with redismr.Client(server.url, secret=SECRET) as client:
        eventually(client.jobs)
        eventually(lambda: client.jobs()[0].state == "mapping")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not client.jobs()


def test_repl_ctrl_c_cancels_a_job_that_is_still_submitted(server, start_repl):
    """A job for each worker is submitting until its last task ends; here no worker comes."""
    process = start_repl("")
    with redismr.Client(server.url, secret=SECRET) as client:
        [job] = eventually(client.jobs)
        assert job.state == "submitting"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not client.jobs()
        assert job.txn == f"repl-{os.uname().nodename}-{process.pid}-0"


def test_repl_ctrl_c_just_before_the_wait_for_a_line_is_not_lost(text_folder):
    """The signal interrupts no read; neither does one that another thread receives, as here."""
    code = """
        import signal, threading, time
        from redismr.cli.line_input import ReplConsole

        def interrupt():
            time.sleep(0.1)  # mostly, the main thread waits for a line by then
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        lines = ReplConsole().lines()
        print(next(lines), flush=True)
        threading.Thread(target=interrupt).start()
        next(lines)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=text_folder, env=shell_env(),
    )  # fmt: skip
    try:
        process.stdin.write(b"a.txt\n")
        process.stdin.flush()
        assert process.wait(30) == -signal.SIGINT
        assert b"KeyboardInterrupt" in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_repl_prints_a_reason_to_wait_once_and_the_prompt_again(server, processes, terminal):
    screen = terminal(url=server.url)
    screen.wait_for("GLOB> ")
    for _ in range(16):
        screen.type("b.txt\n")
    eventually(lambda: screen.wait_for("GLOB> ").count("GLOB> ") == 17)
    screen.wait_for("waiting: no workers are connected")
    eventually(lambda: screen.wait_for("redismr worker").endswith("GLOB> "))
    screen.type("a.txt\n")
    screen.wait_for("16 in flight: waiting for one to end")
    processes.worker(2)
    screen.wait_for("Transaction 16; ")
    for number in range(16):
        screen.wait_for(f"Transaction {number}; ")
    assert screen.screen.count("no workers are connected") == 1
    screen.type("\x04")
    assert screen.process.wait(30) == 0


def test_repl_expands_the_home_folder(text_folder):
    finished = run_repl(text_folder, "~/b.txt\n@~/b*.txt\n")
    assert finished.returncode == 0, finished.stderr
    headings = [heading for heading, _ in transactions(finished.stdout).values()]
    assert headings == ["Word Count; top 100 of 1 results:"] * 2


def test_repl_waits_for_all_transactions_at_the_end_of_the_input(text_folder):
    finished = run_repl(text_folder, "*.txt\n" * 20)
    assert finished.returncode == 0, finished.stderr
    assert sorted(transactions(finished.stdout)) == list(range(20))


WITH_FINAL = """
def mapfn(where, line):
    yield where.line, len(line)

def reducefn(number, lengths):
    return sum(lengths)

def final(number, length):
    print("line", number, "has", length)
"""


def test_repl_runs_a_job_file_on_the_files_of_a_line(text_folder):
    finished = run_repl(
        text_folder, "a.txt\n", str(write_script(text_folder, WITH_FINAL)), "--lines"
    )
    assert finished.returncode == 0, finished.stderr
    assert transactions(finished.stdout)[0] == (
        "script; 2 results:", ["line 1 has 18", "line 2 has 9"]
    )  # fmt: skip


def test_repl_reads_with_the_settings_of_the_source_and_the_options(text_folder):
    body = "import redismr\nsource = redismr.lines('none', encoding='utf-8')\nreducefn = 'first'\n"
    body += "def mapfn(where, line):\n    yield where.line, line\n"
    (text_folder / "latin.txt").write_bytes(b"one\ncaf\xe9\n")
    finished = run_repl(
        text_folder, "latin.txt\n", str(write_script(text_folder, body)), "--encoding", "latin-1"
    )
    assert sorted(transactions(finished.stdout)[0][1]) == ["1\tone", "2\tcafé"], finished


def test_repl_goes_on_after_an_error(text_folder):
    body = """
        def mapfn(path, text):
            yield path, 1 // text.count("cat")
        def final(path, found):
            if path == "c.txt":
                raise SystemExit(3)
        """
    (text_folder / "c.txt").write_text("cat")
    typed = "b.txt\na.txt\nc.txt\n"
    finished = run_repl(
        text_folder, typed, str(write_script(text_folder, body)), TMPDIR=str(text_folder)
    )
    assert finished.returncode == 1
    outcomes = transactions(finished.stdout)
    assert outcomes[0][0] == "script; failed:"
    assert outcomes[1][0] == "script; 1 results:"
    assert outcomes[2][0] == "script; failed:"
    assert "ZeroDivisionError" in finished.stderr
    (saved,) = text_folder.glob("redismr-result-*")
    assert saved.read_text() == "c.txt\t[1]\n"
    assert f"the result is in {saved}\n" in finished.stderr


def test_repl_or_the_workers_read_the_files(text_folder):
    line_job, name = word_count_job(), str(text_folder / "b.txt")
    shipped, read_by_worker = line_job.source(name), line_job.source(f"@{name}")
    assert (shipped.ship, read_by_worker.ship) == (True, False)


def test_repl_table_includes_all_words_as_frequent_as_the_last():
    counts = {"a": 5, "b": 2, "c": 2, "d": 1}
    rows = [(row.split()[1], row.split()[3]) for row in count_table(counts, 2)]
    assert rows == [("c", "b"), ("b", "c"), ("a", "a")]
    assert list(count_table({}, 2)) == []


def test_repl_words_are_without_case_digits_and_punctuation():
    assert [word for word, _ in word_count("k", "It's -- THE end--1, 2nd!")] == [
        "its", "the", "end", "nd"
    ]  # fmt: skip
