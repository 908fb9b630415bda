"""Servers that are away, unfit, or come back; secrets that do not match."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
import redis
from support import eventually
from system.processes import ONE_SERVER_KIND, OTHER_SECRET, SECRET, redismr_cli

import redismr
from redismr.store.retrying_client import RetryingClient


def one(x):
    return [(x, 1)]


# ------------------------------------------------------------------------- unfit or away


def test_no_server_at_start(tmp_path):
    with pytest.raises(redismr.StoreUnavailable, match="no Redis answers") as caught:
        redismr.Client(f"unix://{tmp_path}/nothing", secret=SECRET)
    assert isinstance(caught.value, ConnectionError)


def test_no_server_at_start_by_cli(tmp_path):
    result = redismr_cli("jobs", url=f"unix://{tmp_path}/nothing")
    assert result.returncode == 3
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr


@contextlib.contextmanager
def fake_server(info: bytes):
    """A server that answers INFO with this text, and all else with OK."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def converse(line):
        with line, contextlib.suppress(OSError):
            while data := line.recv(65536):
                for command in data.upper().split(b"*")[1:]:
                    asked = b"INFO\r\n" in command and b"CLIENT" not in command
                    line.sendall(b"$%d\r\n%s\r\n" % (len(info), info) if asked else b"+OK\r\n")

    def serve():
        with contextlib.suppress(OSError):
            while not ended.is_set():
                line, _ = listener.accept()
                threading.Thread(target=converse, args=(line,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_an_old_server_is_refused():
    with fake_server(b"redis_version:6.2.14\r\nmaxmemory_policy:noeviction\r\n") as url:
        with pytest.raises(redismr.UnfitServer, match=r"6\.2\.14.*needs Redis 7\.0"):
            redismr.Client(url, secret=SECRET)
        result = redismr_cli("worker", "--burst", url=url)
    assert result.returncode == 3
    assert "6.2.14" in result.stderr


def test_an_evicting_server_is_refused(server, client):
    server.config(maxmemory_policy="allkeys-lru")
    with pytest.raises(redismr.UnfitServer, match=r"allkeys-lru.*noeviction"):
        redismr.Client(server.url, secret=SECRET)
    result = redismr_cli("worker", "--burst", url=server.url)
    assert result.returncode == 3
    assert "allkeys-lru" in result.stderr


def test_a_server_lost_midway_is_an_error_within_patience(server, client):
    job = client.submit([1], one, "sum", wait_for_server=0.2)
    attached = client.attach(job.id, wait_for_server=0.2)
    server.kill()
    for wait in (job.result, job.wait, attached.result):
        with pytest.raises(redismr.StoreUnavailable, match="does not answer") as caught:
            wait()
        assert caught.value.job_id == job.id
        assert str(caught.value).count(f"redismr result {job.id} --wait") == 1
        assert str(caught.value).count(str(server.directory)) == 1


@ONE_SERVER_KIND
def test_a_run_whose_server_is_away_for_long_leaves_the_job_alone(
    server, client, processes, monkeypatch
):
    """The printed command shows the result as soon as the server is back."""
    cleaned = []
    monkeypatch.setattr(client, "_cancel_quietly", lambda *what: cleaned.append(what))

    def lost(progress):
        if progress.state == "mapping":
            server.kill()

    with pytest.raises(redismr.StoreUnavailable) as caught:
        client.run([1], one, "sum", progress=lost, wait_for_server=0.2)
    job = caught.value.job_id
    assert cleaned == [], "it is not cancelled"
    assert str(caught.value).endswith(
        f"\n  job {job} may still be running. When Redis is back: redismr result {job} --wait"
    )
    server.restart()
    processes.worker()
    result = redismr_cli("result", job, "--wait", url=server.url)
    assert (result.returncode, result.stdout) == (0, "1\t1\n")


@ONE_SERVER_KIND
def test_a_server_that_is_lost_while_a_job_is_handed_in_is_waited_for_once(
    server, client, monkeypatch
):
    """The background thread, the cancel and the caller do not wait one after another."""
    waits, real = [], RetryingClient._pause_or_raise

    def pause_or_raise(link, exc, kind, _waited, attempt):
        waits.append(link.patience)
        real(link, exc, kind, 60.0, attempt)  # patience is used up at once

    monkeypatch.setattr(RetryingClient, "_pause_or_raise", pause_or_raise)

    def source():
        yield 1
        eventually(client.jobs)
        yield from (2, 3)
        server.kill()
        eventually(lambda: waits)  # the background flush, or the lease, waits
        yield 4

    with pytest.raises(redismr.StoreUnavailable, match="may have only a part of its input"):
        client.run(source(), one, "sum", wait_for_server=3.0)
    assert waits.count(3.0) == 1, waits
    assert set(waits) <= {1.0, 3.0}, "nobody waits for longer"


def test_a_private_server_that_has_ended_is_an_error_at_once(tmp_path):
    with redismr.Client(executors=1, namespace="ended") as client:
        server = client._embedded.server

        def end(progress):
            if progress.state == "mapping":
                server.close()

        with pytest.raises(redismr.StoreUnavailable, match="own server has ended") as caught:
            client.run([1], lambda x: [(x, time.sleep(0.5))], "count", progress=end)
    assert caught.value.job_id == ""


def test_waiting_is_reported_once_with_its_limit(server, client, monkeypatch):
    messages = []
    link = client._store.with_patience(0.1).redis_client
    link._on_wait = lambda text, waited: messages.append(text)
    server.kill()
    with pytest.raises(redismr.StoreUnavailable):
        link.command("TIME")
    assert messages
    assert all(text.endswith("; waiting for it, 0.1 s at most") for text in messages)


def test_a_job_goes_on_when_the_server_is_back(server, client, processes, tmp_path):
    gate = tmp_path / "gate"

    def mapfn(x):
        while x == 5 and not gate.exists():
            time.sleep(0.01)
        return [(x % 3, x)]

    job = client.submit(range(20), mapfn, "list", chunk=1, lease=1)
    processes.worker(2)
    eventually(lambda: job.progress().maps_done >= 5)
    server.kill()
    gate.write_text("")
    processes.started[0].wait_for_output("waiting for it")
    server.restart()
    assert dict(job.result(40)) == {k: [x for x in range(20) if x % 3 == k] for k in range(3)}
    processes.started[0].wait_for_output("Redis is back")


def test_a_frozen_server_is_waited_for(server, client, processes):
    job = client.submit(range(5), one, "sum", chunk=1)
    server.pause()
    processes.worker(ready=False)
    server.resume()
    assert len(job.result(30)) == 5


# ------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("secret", "message"), [(None, "needs a shared secret"), ("short", "shorter than 16")]
)
def test_secret_missing_or_short(server, secret, message):
    with pytest.raises(redismr.ConfigError, match=message) as caught:
        redismr.Client(server.url, secret=secret)
    assert "redismr secret" in str(caught.value)
    done = redismr_cli("worker", "--burst", url=server.url, secret=secret)
    assert done.returncode == 2
    assert message in done.stderr


def test_attach_with_another_secret(server, client):
    job = client.submit([1], one)
    with (
        redismr.Client(server.url, secret=OTHER_SECRET) as other,
        pytest.raises(redismr.WrongSecret) as caught,
    ):
        other.attach(job.id)
    for its in (client, other):
        assert its._keyring.key_id in str(caught.value)


def test_a_worker_with_another_secret_takes_nothing_and_reports_it(
    server, client, processes, tmp_path
):
    marker = tmp_path / "ran"

    def mapfn(x):
        marker.write_text("")
        return one(x)

    job = client.submit([1], mapfn)
    stranger = processes.worker(secret=OTHER_SECRET)
    log = stranger.wait_for_output("signed with secret")
    ours = client._keyring.key_id
    assert f"signed with secret {ours}" in log
    assert not marker.exists()
    assert job.progress().maps_running == 0
    row = eventually(lambda: [row for row in client.workers() if row.problem])[0]
    assert ours in row.problem
    with pytest.raises(redismr.NoWorkers, match="another secret") as caught:
        client.run([1], mapfn, wait_for_workers=0.2)
    assert ours in str(caught.value)
    assert row.key_id in str(caught.value)


def test_events_without_the_secret_are_ignored(server, client):
    with client._store.subscribe(None) as channel:
        channel.get(1)
        with redismr.Client(server.url, secret=OTHER_SECRET) as other:
            other.submit([1], one)
        message = eventually(lambda: channel.get(0.1))
    from redismr.core.events import decode_event

    assert decode_event(message, client._keyring) is None


# ------------------------------------------------------------------------- another Python


def test_another_python_is_reported_and_never_run(server, client, processes, tmp_path, monkeypatch):
    marker = tmp_path / "ran"

    def mapfn(x):
        marker.write_text("")
        return one(x)

    monkeypatch.setattr("redismr.client.job_options.PYTHON", "3.9")
    job = client.submit([1], mapfn)
    worker = processes.worker()
    worker.wait_for_output("needs Python 3.9")
    with pytest.raises(redismr.NoWorkers, match=r"Python 3\.9"):
        client.run([1], mapfn, wait_for_workers=0.2)
    assert not marker.exists()
    assert job.state == "mapping"


def test_an_altered_python_field_runs_nothing(server, client, processes, monkeypatch):
    monkeypatch.setattr("redismr.client.job_options.PYTHON", "3.9")
    job = client.submit([1], one, "sum")
    meta = next(key for key in server.client().scan_iter() if key.endswith(b":meta"))
    server.client().hset(meta, "python", f"3.{__import__('sys').version_info.minor}")
    processes.worker()
    with pytest.raises(redismr.JobFailed, match="python"):
        job.result(10)


# ------------------------------------------------------------------------- forged data


@pytest.mark.parametrize("name", ["spec", "code", "params"])
def test_forged_blobs_fail_the_job(server, client, processes, name):
    job = client.submit([1], one, "sum")
    raw: redis.Redis = server.client()
    key = next(key for key in raw.scan_iter() if key.endswith(f":{name}".encode()))
    blob = bytearray(raw.get(key))
    blob[-1] ^= 1
    raw.set(key, bytes(blob), keepttl=True)
    processes.worker()
    with pytest.raises((redismr.JobFailed, redismr.SealError)):
        job.result(15)


def test_a_forged_result_is_noticed(server, client_with_worker):
    job = client_with_worker.submit(range(50), one, "sum", partitions=2)
    job.wait(20)
    raw = server.client()
    key = next(key for key in raw.scan_iter() if key.endswith(b":result"))
    zero, one_ = raw.hget(key, "0"), raw.hget(key, "1")
    raw.hset(key, mapping={"0": one_, "1": zero})
    with pytest.raises(redismr.SealError):
        dict(job.result())
