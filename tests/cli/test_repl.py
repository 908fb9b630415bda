"""Row PK of section 2, example-sf-repl.py: what ``redismr repl`` prints, as a real process."""

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
from system.crew import SECRET, Crew, environ, script

import redismr
from redismr.cli.repl import word_counter
from redismr.compat.words import table, word_count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPL = (sys.executable, "-m", "redismr", "repl")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with two texts."""
    (tmp_path / "a.txt").write_text("The cat -- the dog\nthe end 1\n")
    (tmp_path / "b.txt").write_text("Cat!\n")
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that others have named."""
    server = Server("valkey")
    yield server
    server.close()


@pytest.fixture
def crew(server: Server, tmp_path: Path) -> Iterator[Crew]:
    """Its workers."""
    crew = Crew(server.url, tmp_path / "crew")
    yield crew
    crew.close()


def repl(folder, typed, *options, url=None, **env):
    """Its output for what is piped in."""
    return subprocess.run(
        [*REPL, "-n", "2", *options], input=typed, cwd=folder, capture_output=True, text=True,
        timeout=60, env=environ(url, SECRET if url else None, HOME=str(folder), **env), check=False,
    )  # fmt: skip


def transactions(output):
    """Number -> (heading, lines)."""
    found = {}
    for line in output.splitlines():
        if line.startswith("Transaction "):
            number, heading = line.removeprefix("Transaction ").split("; ", 1)
            found[int(number)] = (heading, rows := [])
        else:
            rows.append(line)
    return found


class Terminal:
    """A REPL at a terminal of its own."""

    def __init__(self, folder, *options, url=None):
        self._ours, theirs = pty.openpty()
        env = environ(url, SECRET if url else None, HOME=str(folder), TERM="dumb")
        self.process = subprocess.Popen(
            [*REPL, "-n", "2", *options], stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT,
            cwd=folder, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.screen = ""

    def type(self, text):
        os.write(self._ours, text.encode())

    def shows(self, text, timeout=30):
        """Its screen, as soon as that has the text."""
        eventually(lambda: text in self._read(), timeout, f"{text!r} not in {self.screen!r}")
        return self.screen

    def _read(self):
        with contextlib.suppress(BlockingIOError, OSError):
            while more := os.read(self._ours, 65536):
                self.screen += more.decode()
        return self.screen

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(texts):
    """Starts REPLs at terminals."""
    started = []

    def start(*options, url=None):
        started.append(Terminal(texts, *options, url=url))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_repl_counts_the_words_of_each_line_under_its_transaction(texts):
    ran = repl(texts, "*.txt\n@b.txt\n")
    assert ran.returncode == 0, ran.stderr
    told = transactions(ran.stdout)
    assert told[0] == (
        "Word Count; top 100 of 4 results:",
        [
            "       3 the                                             1 dog",
            "       1 end                                             1 end",
            "       1 dog                                             2 cat",
            "       2 cat                                             3 the",
        ],
    )
    row = "       1 cat                                             1 cat"
    assert told[1] == ("Word Count; top 100 of 1 results:", [row])


def test_repl_refuses_by_name_what_matches_nothing(texts):
    """And goes on; the code is that of the first line that failed, in the order of the lines."""
    ran = repl(texts, "b.txt none* 'no such.txt'\nb.txt\n@\n'b.txt\n")
    assert ran.returncode == 2
    told = transactions(ran.stdout)
    assert [told[number][0] for number in (0, 2, 3)] == ["Word Count; failed:"] * 3
    assert told[1][0] == "Word Count; top 100 of 1 results:"
    said = sorted(ran.stderr.splitlines())
    assert said == [
        'redismr: cannot tell the names in "\'b.txt" apart: No closing quotation',
        "redismr: no file is named",
        f"redismr: nothing matches 'none*', 'no such.txt' in {texts}",
    ]


def test_repl_a_line_may_have_several_names(texts):
    (texts / "two words.txt").write_text("cat\n")
    lines = ["a.txt b.txt", "@~/b.* ~/a.txt", "two words.txt", "'two words.txt' b.txt", "*.txt"]
    ran = repl(texts, "\n".join(lines))
    assert ran.returncode == 0, ran.stderr
    cats = [dict(map(str.split, (row[:32] for row in rows))) for _, rows in _in_order(ran.stdout)]
    assert [next(n for n, w in its.items() if w == "cat") for its in cats] == list("22123")


def _in_order(output):
    return [outcome for _, outcome in sorted(transactions(output).items())]


def test_repl_an_empty_line_asks_every_worker(server, crew, texts):
    for executors in (1, 2, 1):
        crew.worker(executors)
    with redismr.Client(server.url, secret=SECRET) as client:
        eventually(lambda: len(client.workers()) == 3)
        ran = repl(texts, "\n", url=server.url)
        assert ran.returncode == 0, ran.stderr
        heading, rows = transactions(ran.stdout)[0]
        assert heading == "Stats; 3 results:"
        its = (os.uname().nodename, "posix")
        assert rows == [f"{number} : {its}" for number in range(3)]
        assert not client.jobs()


SLOW = """
import os, time

def mapfn(path, text):
    while path.endswith("a.txt") and not os.path.exists("gate"):
        time.sleep(0.01)
    yield path, len(text)

reducefn = "sum"
"""


def test_repl_the_prompt_is_back_while_transactions_are_in_flight(texts, terminal):
    screen = terminal(str(script(texts, SLOW)))
    screen.shows("Which files?  eg. '*.txt<enter>'")
    screen.shows("GLOB> ")
    screen.type("a.txt\n")
    screen.type("b.txt\n")
    assert "Transaction 0" not in screen.shows("Transaction 1; script; 1 results:")
    (texts / "gate").touch()
    screen.shows("Transaction 0; script; 1 results:")
    screen.type("\x04")
    assert screen.process.wait(30) == 0


def test_repl_remembers_its_lines(texts, terminal):
    first = terminal()
    first.shows("GLOB> ")
    first.type("b.txt\n")
    first.shows("Transaction 0;")
    first.type("\x04")
    assert first.process.wait(30) == 0
    assert "b.txt" in (texts / ".redismr_history").read_text()
    second = terminal()
    second.shows("GLOB> ")
    second.type("\x10\n")  # the line before: Ctrl-P
    second.shows("Transaction 0; Word Count; top 100 of 1 results:")


@pytest.fixture
def typed_at(server, texts):
    """Starts a REPL on the server, with one line typed, and more to come."""
    started = []

    def start(line, *options):
        process = subprocess.Popen(
            [*REPL, *options], stdin=subprocess.PIPE, cwd=texts, env=environ(server.url)
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


def test_repl_ctrl_c_stops_what_is_in_flight(server, crew, texts, typed_at):
    crew.worker(2)
    process = typed_at("a.txt", str(script(texts, SLOW)))
    with redismr.Client(server.url, secret=SECRET) as client:
        eventually(client.jobs)
        eventually(lambda: client.jobs()[0].state == "mapping")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not client.jobs()


def test_repl_ctrl_c_stops_what_is_still_submitted(server, typed_at):
    """A job for each worker is submitted until the last one is done; here none ever comes."""
    process = typed_at("")
    with redismr.Client(server.url, secret=SECRET) as client:
        [job] = eventually(client.jobs)
        assert job.state == "submitting"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not client.jobs()
        assert job.txn == f"repl-{os.uname().nodename}-{process.pid}-0"


def test_repl_ctrl_c_just_before_a_line_is_waited_for_is_not_lost(texts):
    """Then the signal interrupts no read; nor does one that another thread takes, as here."""
    code = """
        import signal, threading, time
        from redismr.cli.prompt import Console

        def interrupt():
            time.sleep(0.1)  # either way main finds it out; mostly it waits for a line by then
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        lines = Console().lines()
        print(next(lines), flush=True)
        threading.Thread(target=interrupt).start()
        next(lines)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=texts, env=environ(),
    )  # fmt: skip
    try:
        process.stdin.write(b"a.txt\n")
        process.stdin.flush()
        assert process.wait(30) == -signal.SIGINT
        assert b"KeyboardInterrupt" in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_repl_says_once_what_all_wait_for_and_shows_the_prompt_again(server, crew, terminal):
    screen = terminal(url=server.url)
    screen.shows("GLOB> ")
    for _ in range(16):
        screen.type("b.txt\n")
    eventually(lambda: screen.shows("GLOB> ").count("GLOB> ") == 17)
    screen.shows("waiting: no workers are connected")
    eventually(lambda: screen.shows("redismr worker").endswith("GLOB> "))
    screen.type("a.txt\n")
    screen.shows("16 in flight: waiting for one to end")
    crew.worker(2)
    screen.shows("Transaction 16; ")
    for number in range(16):
        screen.shows(f"Transaction {number}; ")
    assert screen.screen.count("no workers are connected") == 1
    screen.type("\x04")
    assert screen.process.wait(30) == 0


def test_repl_knows_the_home_of_its_user(texts):
    ran = repl(texts, "~/b.txt\n@~/b*.txt\n")
    assert ran.returncode == 0, ran.stderr
    headings = [heading for heading, _ in transactions(ran.stdout).values()]
    assert headings == ["Word Count; top 100 of 1 results:"] * 2


def test_repl_waits_for_what_is_in_flight_at_the_end_of_its_input(texts):
    ran = repl(texts, "*.txt\n" * 20)
    assert ran.returncode == 0, ran.stderr
    assert sorted(transactions(ran.stdout)) == list(range(20))


FINAL = """
def mapfn(where, line):
    yield where.line, len(line)

def reducefn(number, lengths):
    return sum(lengths)

def final(number, length):
    print("line", number, "has", length)
"""


def test_repl_runs_any_job_file_on_what_a_line_names(texts):
    ran = repl(texts, "a.txt\n", str(script(texts, FINAL)), "--lines")
    assert ran.returncode == 0, ran.stderr
    assert transactions(ran.stdout)[0] == (
        "script; 2 results:", ["line 1 has 18", "line 2 has 9"]
    )  # fmt: skip


def test_repl_reads_as_the_job_files_source_does_and_as_its_options_say(texts):
    body = "import redismr\nsource = redismr.lines('none', encoding='utf-8')\nreducefn = 'first'\n"
    body += "def mapfn(where, line):\n    yield where.line, line\n"
    (texts / "latin.txt").write_bytes(b"one\ncaf\xe9\n")
    ran = repl(texts, "latin.txt\n", str(script(texts, body)), "--encoding", "latin-1")
    assert sorted(transactions(ran.stdout)[0][1]) == ["1\tone", "2\tcafé"], ran


def test_repl_goes_on_after_an_error(texts):
    body = """
        def mapfn(path, text):
            yield path, 1 // text.count("cat")
        def final(path, found):
            if path == "c.txt":
                raise SystemExit(3)
        """
    (texts / "c.txt").write_text("cat")
    typed = "b.txt\na.txt\nc.txt\n"
    ran = repl(texts, typed, str(script(texts, body)), TMPDIR=str(texts))
    assert ran.returncode == 1
    told = transactions(ran.stdout)
    assert told[0][0] == "script; failed:"
    assert told[1][0] == "script; 1 results:"
    assert told[2][0] == "script; failed:"
    assert "ZeroDivisionError" in ran.stderr
    (saved,) = texts.glob("redismr-result-*")
    assert saved.read_text() == "c.txt\t[1]\n"
    assert f"the result is in {saved}\n" in ran.stderr


def test_repl_reads_files_itself_or_has_the_workers_do_so(texts):
    work, name = word_counter(), str(texts / "b.txt")
    here, there = work.source(name), work.source(f"@{name}")
    assert (here.ship, there.ship) == (True, False)


def test_repl_the_table_has_all_words_that_are_as_frequent_as_its_last():
    counts = {"a": 5, "b": 2, "c": 2, "d": 1}
    rows = [(row.split()[1], row.split()[3]) for row in table(counts, 2)]
    assert rows == [("c", "b"), ("b", "c"), ("a", "a")]
    assert list(table({}, 2)) == []


def test_repl_words_are_without_case_digits_and_punctuation():
    assert [word for word, _ in word_count("k", "It's -- THE end--1, 2nd!")] == [
        "its", "the", "end", "nd"
    ]  # fmt: skip
