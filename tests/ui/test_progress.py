"""The display of a running job in a pipe, on a terminal and in a notebook."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from ui.terminal import Terminal

from redismr.core.status_rows import Progress, StageProgress
from redismr.ui.progress import LiveDisplay, progress_display, summary_line


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def progress(**fields):
    """Return the progress of a job of 8 map tasks; amounts follow from tasks if not given."""
    all_fields = {"job_id": "wc-1", "state": "mapping", "maps_total": 8} | fields
    done, total = all_fields.get("maps_done", 0), all_fields["maps_total"]
    reduced, partitions = all_fields.get("reduces_done", 0), all_fields.get("reduces_total")
    maps = StageProgress(done=done, total=total, tasks=total)
    reduces = StageProgress(done=reduced, total=partitions, tasks=partitions)
    return Progress(**({"maps": maps, "reduces": reduces} | all_fields))


def work_done(done, total, *, busy=2, speed=1.0, unit="tasks"):
    """Return the progress of a stage when each of ``busy`` executors has just begun a task."""
    return StageProgress(
        unit=unit, done=done, total=total, spent=done / speed, busy=busy, tasks=total,
        tasks_done=done, tasks_begun=done + busy,
    )  # fmt: skip


def run_display(stream, clock, seconds, *, state="mapping", every=0.2, **fields):
    """Return a display that was called every 0.2 s for some seconds."""
    display = progress_display(stream, always=fields.pop("always", False), clock=clock)
    began = clock.now
    while clock.now - began <= seconds:
        display(progress(state=state, elapsed=clock.now - began, **fields))
        clock.now += every
    return display


def last_frame(terminal):
    """Return the last frame drawn, without control sequences."""
    frame = terminal.getvalue().rpartition("\x1b[2K")[2]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame)


class TestPipe:
    def test_gets_nothing(self, clock):
        pipe = io.StringIO()
        display = run_display(pipe, clock, 60)
        display(progress(state="succeeded"))
        assert pipe.getvalue() == ""

    def test_is_told_once_that_an_announced_job_is_running(self, clock):
        pipe = io.StringIO()
        display = progress_display(pipe, announce=True, summary=False, clock=clock)
        for _ in range(60):
            display(progress())
            assert pipe.getvalue() == ("" if clock.now < 105 else "redismr: job wc-1 is running\n")
            clock.now += 1
        display(progress(state="succeeded"))
        assert pipe.getvalue().count("\n") == 1

    @pytest.mark.parametrize(("state", "lines"), [("failed", 1), ("succeeded", 0)])
    def test_gets_the_summary_of_an_announced_job_that_failed(self, clock, state, lines):
        pipe = io.StringIO()
        with (
            pytest.raises(ValueError),
            progress_display(pipe, announce=True, clock=clock) as display,
        ):
            display(progress(state=state))
            raise ValueError
        assert pipe.getvalue().count("redismr: wc-1 failed: 0/8 map tasks, ") == lines
        assert len(pipe.getvalue().splitlines()) == lines

    def test_is_told_once_why_a_job_waits(self, clock):
        pipe = io.StringIO()
        run_display(pipe, clock, 60, waiting="no workers\x1b[2J")
        assert pipe.getvalue() == "redismr: wc-1 is waiting: no workers[2J\n"

    def test_gets_lines_with_always(self, clock):
        pipe = io.StringIO()
        display = run_display(pipe, clock, 11, always=True, maps_done=3, shuffle_bytes=2_500_000)
        display(progress(state="succeeded", maps_done=8, reduces_done=4, elapsed=12))
        lines = pipe.getvalue().splitlines()
        assert len(lines) == 3
        assert (
            lines[0]
            == "redismr: wc-1 mapping 0:05  map 3/8 tasks  reduce 0/? tasks  2.5 MB shuffled"
        )
        assert lines[-1] == "wc-1 succeeded: 8 map tasks, 4 reduce tasks, 0.0 MB shuffled, 12.0 s"

    def test_a_notebook_gets_lines(self, clock, monkeypatch):
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
        notebook = io.StringIO()
        run_display(notebook, clock, 6)
        assert "map 0/8 tasks" in notebook.getvalue()

    def test_a_dumb_terminal_gets_lines(self, clock, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        terminal = Terminal()
        run_display(terminal, clock, 6)
        assert "map 0/8 tasks" in terminal.getvalue()
        assert "\x1b" not in terminal.getvalue()


class TestTerminal:
    def test_a_quick_job_leaves_one_line(self, clock):
        terminal = Terminal()
        display = run_display(terminal, clock, 0.3)
        display(progress(state="succeeded", maps_done=1, reduces_done=1, elapsed=0.31))
        summary = "wc-1 succeeded: 1 map task, 1 reduce task, 0.0 MB shuffled, 0.3 s\n"
        assert terminal.getvalue() == summary

    def test_a_quick_job_does_not_import_rich(self):
        code = (
            "import sys; from redismr.core.status_rows import Progress\n"
            "from redismr.ui import progress\n"
            "sys.stderr.isatty = lambda: True; display = progress.progress_display()\n"
            "assert type(display) is progress.LiveDisplay\n"
            "[display(Progress(job_id='j', state=s)) for s in ('mapping', 'succeeded')]\n"
            "assert 'rich' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, env={"TERM": "xterm"})

    def test_rows_fit_80_columns(self, clock):
        terminal = Terminal()
        display = run_display(
            terminal, clock, 2, maps_done=123_456, maps_total=999_999, maps_running=1024,
            shuffle_bytes=10**15, retries=1000, workers=300, slots=9000,
            reduces_total=4096,
        )  # fmt: skip
        rows = last_frame(terminal).splitlines()
        assert [row.split()[0] for row in rows] == ["wc-1", "map", "reduce", "shuffle"]
        assert max(map(len, rows)) <= 80
        assert "123,456/999,999 tasks" in rows[1]
        display.close()

    @pytest.mark.parametrize("unit", ["items", "bytes", "tasks"])
    @pytest.mark.parametrize("columns", [40, 80, 120])
    def test_time_left_and_rate_are_left_out_last(self, clock, monkeypatch, columns, unit):
        monkeypatch.setenv("COLUMNS", str(columns))
        terminal = Terminal()
        display = progress_display(terminal, clock=clock)
        each = 1_000_000 if unit == "bytes" else 1
        for done in range(0, 4000, 400):
            maps = work_done(done * each, 9000 * each, speed=200 * each, unit=unit)
            display(progress(maps=maps, maps_running=2, workers=1, slots=2, shuffle_bytes=10**9))
            clock.now += 1
        frame = last_frame(terminal)
        display.close()
        assert max(map(len, frame.splitlines())) <= columns
        shown = re.search(r"\n  map +(\S*━\S* +)?(.*)", frame)
        bar, told = shown[1], shown[2].rstrip()
        rate = "400.0 MB/s" if unit == "bytes" else f"400 {unit}/s"
        whole = "3.6/9.0 GB" if unit == "bytes" else f"3,600/9,000 {unit}"
        running = "  2 tasks running" if columns == 120 else ""
        assert told == (f"{'40%' if columns == 40 else whole}  eta 0:14  {rate}{running}")
        assert bool(bar) == (columns > 40)

    def test_the_running_stage_has_time_left_and_rate(self, clock):
        terminal = Terminal()
        display = run_display(terminal, clock, 0.5, maps_done=8)
        for done in range(10):
            work = work_done(done, 20, busy=1)
            display(progress(state="reducing", maps_done=8, reduces_total=20, reduces=work))
            clock.now += 1
        _, maps, reduces, _ = last_frame(terminal).splitlines()
        assert maps.rstrip().endswith("8/8 tasks")
        assert re.search(r"9/20 tasks +eta 0:11 +1\.0 tasks/s", reduces)

    def test_an_unknown_total_has_no_bar_and_no_eta(self, clock):
        terminal = Terminal()
        display = progress_display(terminal, clock=clock)
        for done in range(5):
            display(progress(state="submitting", maps_total=None, maps_done=done))
            clock.now += 1
        assert re.search(r"map +4/\? tasks +1\.0 tasks/s +reading input", last_frame(terminal))

    def test_the_reason_of_a_wait_is_shown_whole(self, clock):
        terminal = Terminal()
        reason = "no workers are connected to redis://db1 (namespace x). " * 3
        display = run_display(terminal, clock, 1, waiting=reason)
        assert " ".join(reason.split()) in " ".join(last_frame(terminal).split())
        display.close()
        assert last_frame(terminal).strip() == ""

    def test_time_spent_waiting_does_not_count(self, clock):
        terminal = Terminal()
        display = run_display(terminal, clock, 600, every=1, waiting="no workers")
        for done in range(5):
            display(progress(maps=work_done(done, 8, busy=1)))
            clock.now += 1
        assert re.search(r"4/8 tasks +eta 0:04 +0\.8 tasks/s", last_frame(terminal))

    def test_names_cannot_send_control_codes_to_the_terminal(self, clock):
        terminal = Terminal()
        display = progress_display(terminal, clock=clock)
        for _ in range(2):
            display(progress(job_id="[bold]x\x1b]0;owned\x07", waiting="\x1b[2J[red]"))
            clock.now += 1
        assert "\x1b]0;" not in terminal.getvalue()
        assert "[bold]x" in terminal.getvalue()

    def test_the_cursor_is_shown_again_after_an_exception(self, clock):
        terminal = Terminal()
        with pytest.raises(KeyboardInterrupt), progress_display(terminal, clock=clock) as display:
            display(progress())
            clock.now += 1
            display(progress())
            raise KeyboardInterrupt
        assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1

    def test_the_cursor_is_shown_again_if_close_is_forgotten(self, clock):
        terminal = Terminal()
        display = run_display(terminal, clock, 1)
        assert isinstance(display, LiveDisplay)
        del display
        assert "\x1b[?25h" in terminal.getvalue()

    def test_one_display_draws_job_after_job(self, clock):
        terminal = Terminal()
        display = progress_display(terminal, clock=clock)
        for name in ("a", "b"):
            display(progress(job_id=name))
            display(progress(job_id=name, state="succeeded"))
            display(progress(job_id=name, state="succeeded"))
        assert re.findall(r"(\w) succeeded", terminal.getvalue()) == ["a", "b"]


class TestSummary:
    def test_a_failed_job_shows_tasks_done_of_all(self):
        line = summary_line(
            progress(state="failed", maps_done=3, reduces_total=2, retries=4, elapsed=1)
        )
        assert (
            line
            == "wc-1 failed: 3/8 map tasks, 0/2 reduce tasks, 0.0 MB shuffled, 1.0 s, 4 retried"
        )

    def test_counters_are_sorted(self):
        line = summary_line(progress(state="succeeded"), {"lines": 84120, "bad\x1b": 2})
        assert line.endswith(", bad 2, lines 84,120")


def test_a_job_without_reducer_still_has_partitions(clock):
    terminal = Terminal()
    display = run_display(terminal, clock, 1, reduces_total=4)
    assert "0/4 tasks" in last_frame(terminal)
    display.close()
