"""The screen while a job runs, as text, on a pseudo terminal."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest
from support import eventually
from system.processes import ONE_SERVER_KIND, redismr_cli, shell_env, write_script

pytestmark = ONE_SERVER_KIND

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ITEMS = """
    import os, time
    source = range(200)
    def mapfn(x):
        time.sleep(0.02)
        while x > 150 and not os.path.exists({gate!r}):
            time.sleep(0.02)
        yield x % 3, 1
    reducefn = "sum"
"""


class Screen:
    """A command at a terminal of so many columns."""

    def __init__(self, columns, url, *words, **env):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "redismr", *map(str, words)],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            env=shell_env(url, TERM="xterm", **env),
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.raw = ""

    @property
    def text(self):
        """Return all output without escape codes."""
        with contextlib.suppress(BlockingIOError, OSError):
            while more := os.read(self._ours, 65536):
                self.raw += self._decode(more)
        return CODES.sub("", self.raw)

    @property
    def lines(self):
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.text)]

    def shows(self, pattern):
        """Wait for output that matches; return the first match."""
        eventually(
            lambda: re.search(pattern, self.text), 30, lambda: f"no {pattern!r} in {self.text!r}"
        )
        return re.search(pattern, self.text)[0]

    def type(self, text):
        os.write(self._ours, text.encode())

    def ends(self):
        """Wait for the end; return the exit status."""
        eventually(lambda: self.text is not None and self.process.poll() is not None, 30)
        return self.process.returncode

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def gate(tmp_path):
    """A file whose creation lets the items go on."""
    return tmp_path / "gate"


@pytest.fixture
def screen(shared_worker, server, tmp_path, gate):
    """Start a job on a terminal; the last items wait for the gate."""
    job, begun = write_script(tmp_path, ITEMS.format(gate=str(gate))), []

    def begin(columns, **env):
        begun.append(Screen(columns, server.url, "run", job, **env))
        return begun[-1]

    yield begin
    gate.touch()
    for screen in begun:
        screen.close()


@pytest.mark.parametrize("columns", [40, 80])
def test_a_job_on_a_terminal(screen, gate, columns):
    """Narrow terminals leave out the bar first, then time left and rate."""
    screen_of_job = screen(columns, NO_COLOR="1")
    row = screen_of_job.shows(r"  map .* eta \d+:\d\d  [\d,.]+ items/s")
    screen_of_job.shows(r"  reduce +0/\d+ tasks")
    if columns == 40:
        assert re.fullmatch(r"  map +\d+%  eta \d+:\d\d  \d+ items/s", row)
    else:
        assert re.fullmatch(r"  map +[━╸]+ +\d+/200 items  eta \d+:\d\d  \d+ items/s", row)
    gate.touch()
    assert screen_of_job.ends() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", screen_of_job.raw), "colours"
    assert screen_of_job.raw.count("\x1b[?25l") == screen_of_job.raw.count("\x1b[?25h") == 1
    *_, result, summary, _ = screen_of_job.lines
    # A narrow terminal breaks the last line itself: nothing is cut from it.
    assert re.fullmatch(
        r"\w+-\w+ succeeded: 200 items in \d+ map tasks, \d+ reduce tasks, "
        r"0\.0 MB shuffled, \d+\.\d s", summary,
    )  # fmt: skip
    assert re.fullmatch(r"\d\t6\d", result)
    assert max(map(len, screen_of_job.lines[:-2])) <= columns


def test_ctrl_c_on_a_terminal(screen, client):
    screen_of_job = screen(120)
    screen_of_job.shows(
        r"  map +[━╸]+ +\d+/200 items  eta \d+:\d\d  \d+ items/s  \d tasks? running"
    )
    screen_of_job.type("\x03")
    assert screen_of_job.ends() == 130
    assert screen_of_job.raw.count("\x1b[?25l") == screen_of_job.raw.count("\x1b[?25h") == 1
    assert screen_of_job.text.rstrip().endswith("redismr: interrupted")
    assert "Traceback" not in screen_of_job.text
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_listings_on_a_terminal_and_in_a_pipe(shared_worker, server, client):
    job = client.submit([1], lambda x: [(x, x)], name="one")
    assert job.wait(20)
    screen = Screen(80, server.url, "jobs")
    assert screen.ends() == 0
    titles, row, *rest = screen.lines
    screen.close()
    assert re.split("  +", titles) == [
        "JOB", "NAME", "STATE", "MAP TASKS", "REDUCE TASKS", "AGE", "TTL",
    ]  # fmt: skip
    assert row.startswith(f"{job.id}  one   succeeded ")
    assert not any(rest)
    titles, row = redismr_cli("jobs", url=server.url).stdout.splitlines()
    assert titles.split("\t")[:2] == ["JOB", "TXN"]
    assert row.split("\t")[:4] == [job.id, "", "one", "succeeded"]
