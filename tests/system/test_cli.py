"""The command line as a shell sees it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from support import eventually
from system.processes import SECRET, redismr_cli, run_command, shell_env, write_script

import redismr

WORDCOUNT = """
    source = ["to be or", "not to be"]
    def mapfn(text):
        for word in text.split():
            yield word, 1
    reducefn = "sum"
    options = {"sort": True}
"""
COUNTED = "be\t2\nnot\t1\nor\t1\nto\t2\n"
SLOW = """
    import os, time
    source = [1]
    def mapfn(x):
        open(os.environ["MARKER"], "w").close()
        while True:
            time.sleep(0.01)
"""


@pytest.fixture
def job_file(tmp_path):
    return write_script(tmp_path, WORDCOUNT)


def normalized_summary(done):
    """Return the summary of a job in a pipe, without the parts that differ from run to run."""
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" is running")]
    (summary,) = lines  # only jobs that take longer print a line while they run
    return re.sub(r"\d+ reduce|\d+\.\d (MB|s)|\w+-\w{16}", "#", summary)


SUCCEEDED = "redismr: # succeeded: {} items in {} map tasks, # tasks, # shuffled, #"


def test_run_prints_the_result_and_a_summary(shared_worker, server, job_file):
    done = redismr_cli("run", job_file, url=server.url)
    assert (done.returncode, done.stdout) == (0, COUNTED)
    assert normalized_summary(done) == SUCCEEDED.format(2, 2)
    done = redismr_cli("run", job_file, "--quiet", url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, COUNTED, "")


def test_run_without_a_server_is_embedded(job_file):
    done = redismr_cli("run", job_file, secret=None)
    assert (done.returncode, done.stdout) == (0, COUNTED)
    assert normalized_summary(done) == SUCCEEDED.format(2, 2)


def test_run_inline(job_file):
    done = redismr_cli("run", "--inline", job_file, secret=None)
    assert (done.returncode, done.stdout, done.stderr) == (0, COUNTED, "")


def test_run_deletes_its_job(shared_worker, server, client, job_file):
    assert redismr_cli("run", job_file, url=server.url).returncode == 0
    assert client.jobs() == []


def test_run_reads_the_files_it_is_given(shared_worker, server, job_file, tmp_path):
    (tmp_path / "a.txt").write_text("x y\n")
    (tmp_path / "b.txt").write_text("y\n")
    done = redismr_cli("run", "--lines", job_file, f"{tmp_path}/*.txt", url=server.url)
    assert (done.returncode, done.stdout) == (0, "x\t1\ny\t2\n")


def test_run_top_and_json(shared_worker, server, job_file):
    done = redismr_cli("run", job_file, "--top", "1", "--json", url=server.url)
    assert json.loads(done.stdout) in (["be", 2], ["to", 2])


def test_run_final_prints(shared_worker, server, tmp_path):
    body = WORDCOUNT + "    def final(key, value):\n        print(key, value)\n"
    done = redismr_cli("run", write_script(tmp_path, body), url=server.url)
    assert done.stdout == COUNTED.replace("\t", " ")


def test_a_closed_pipe_is_no_error(shared_worker, server, tmp_path):
    body = """
        source = range(100_000)
        def mapfn(x):
            yield x, "some longer text to fill the pipe"
    """
    path = write_script(tmp_path, body)
    command = f"{sys.executable} -m redismr run -q {path} | head -1"
    done = run_command("bash", "-c", f"set -o pipefail; {command}", url=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    with redismr.Client(server.url, secret=SECRET) as client:
        (row,) = client.jobs()  # the reader may have ended
        assert len(client.attach(row.job_id).result()) == 100_000


def test_submit_watch_result_jobs_delete(shared_worker, server, job_file):
    done = redismr_cli("submit", job_file, "--name", "wc", url=server.url)
    assert done.returncode == 0
    job_id = done.stdout.strip()
    assert redismr_cli("watch", job_id, url=server.url).returncode == 0
    done = redismr_cli("result", job_id, url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, COUNTED, "")
    rows = redismr_cli("jobs", "--json", url=server.url).stdout.splitlines()
    assert json.loads(rows[0])["job_id"] == job_id
    assert redismr_cli("delete", job_id, url=server.url).returncode == 0
    done = redismr_cli("result", job_id, url=server.url)
    assert done.returncode == 2
    assert "not in Redis any more" in done.stderr


def test_workers_are_listed(processes, server, client):
    processes.worker(2)
    eventually(client.workers)
    done = redismr_cli("workers", "--json", url=server.url)
    assert 2 in [json.loads(line)["executors"] for line in done.stdout.splitlines()]


def test_user_errors_exit_with_1(shared_worker, server, tmp_path):
    path = write_script(tmp_path, "source = [0]\ndef mapfn(x):\n    return [(1 / x, x)]\n")
    done = redismr_cli("run", path, "--retries", "0", url=server.url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "return [(1 / x, x)]" in done.stderr
    assert "redismr/" not in done.stderr
    assert len(done.stderr.splitlines()) <= 16


def test_errors_of_a_failed_job(shared_worker, server, tmp_path, client):
    path = write_script(tmp_path, "source = [0]\ndef mapfn(x):\n    return [(1 / x, x)]\n")
    job_id = redismr_cli("submit", path, "--retries", "0", url=server.url).stdout.strip()
    assert client.attach(job_id).wait(20)
    done = redismr_cli("errors", job_id, url=server.url)
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stdout
    assert redismr_cli("result", job_id, url=server.url).returncode == 1


def test_usage_errors_exit_with_2(server, tmp_path):
    for words in (
        ("run", tmp_path / "none.py"),
        ("run", write_script(tmp_path, "x = 1\n")),
        ("result", "nonsense"),
        ("nonsense",),
    ):
        done = redismr_cli(*words, url=server.url)
        assert done.returncode == 2, done
        assert done.stdout == ""
        assert done.stderr.startswith("redismr: ")


def test_no_files_exits_with_2(server, job_file, tmp_path):
    done = redismr_cli("run", job_file, f"{tmp_path}/none*", url=server.url)
    assert done.returncode == 2
    assert "none*" in done.stderr


def test_no_secret_exits_with_2(server, job_file):
    done = redismr_cli("run", job_file, url=server.url, secret=None)
    assert done.returncode == 2
    assert "redismr secret" in done.stderr


def test_ctrl_c_cancels_and_exits_with_130(shared_worker, server, client, tmp_path):
    marker = tmp_path / "marker"
    body = SLOW.replace('os.environ["MARKER"]', repr(str(marker)))
    process = subprocess.Popen(
        [sys.executable, "-m", "redismr", "run", write_script(tmp_path, body)],
        env=shell_env(server.url), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    eventually(marker.exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_ctrl_c_ends_an_embedded_run(tmp_path):
    marker = tmp_path / "marker"
    body = SLOW.replace('os.environ["MARKER"]', repr(str(marker)))
    process = subprocess.Popen(
        [sys.executable, "-m", "redismr", "run", write_script(tmp_path, body)],
        env=shell_env(None, None), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    eventually(marker.exists)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


def test_ctrl_c_in_a_script_cancels(shared_worker, server, client, tmp_path):
    marker = tmp_path / "marker"
    body = f"""
        import redismr, time
        def mapfn(x):
            open({str(marker)!r}, "w").close()
            while True:
                time.sleep(0.01)
        redismr.run([1], mapfn)
    """
    process = subprocess.Popen(
        [sys.executable, write_script(tmp_path, body)],
        env=shell_env(server.url), stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    eventually(marker.exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in err
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_listen_prints_events_as_json(shared_worker, server, processes, client):
    listener = processes.start(sys.executable, "-u", "-m", "redismr", "listen", "t9")
    raw = client._store.redis_client.client
    eventually(lambda: [n for n in raw.pubsub_channels() if b"t9" in n])
    client.submit([1], lambda x: [(x, x)], txn="t9").result(20)
    listener.wait_for_output('"succeeded"')
    kinds = [json.loads(line)["kind"] for line in listener.log.splitlines()]
    assert kinds[0] == "submitted"
    listener.send(signal.SIGINT)
    assert listener.wait() in (0, 130)


def test_up_starts_a_server_that_workers_join(processes, tmp_path, job_file):
    up = processes.start(
        "env", "-u", "REDISMR_URL", sys.executable, "-m", "redismr", "up", "-n", "1"
    )
    line = up.wait_for_output("redismr worker\n").splitlines()[0]
    assert line.startswith("export REDISMR_URL=")
    done = run_command("bash", "-c", f"{line}; {sys.executable} -m redismr run {job_file}")
    assert (done.returncode, done.stdout) == (0, COUNTED), done.stderr
    below = up.descendants()
    up.send(signal.SIGINT)
    assert up.wait() == 0
    from support import is_running

    eventually(lambda: not any(map(is_running, below)))


def test_the_secret_is_in_no_process_list(shared_worker, server, processes):
    worker = processes.worker(1)
    for pid in [worker.pid, *worker.descendants()]:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            assert SECRET.encode() not in file.read()


def test_python_scripts_print_nothing_else(shared_worker, server, tmp_path):
    path = write_script(
        tmp_path, "import redismr\nprint(dict(redismr.run([1], lambda x: [(x, x)])))\n"
    )
    done = run_command(sys.executable, path, url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{1: [1]}\n", "")


def test_the_public_names_import():
    for name in redismr.__all__:
        assert getattr(redismr, name) is not None
