"""Servers that are away, unfit, or come back; secrets that do not match."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
import redis
from support import eventually
from system.crew import OTHER_SECRET, SECRET, redismr_cli

import redismr


def one(x):
    return [(x, 1)]


# ------------------------------------------------------------------------- unfit or away


def test_no_server_at_start(tmp_path):
    with pytest.raises(redismr.StoreUnavailable, match="no Redis answers") as caught:
        redismr.Client(f"unix://{tmp_path}/nothing", secret=SECRET)
    assert isinstance(caught.value, ConnectionError)


def test_no_server_at_start_by_cli(tmp_path):
    said = redismr_cli("jobs", url=f"unix://{tmp_path}/nothing")
    assert said.returncode == 3
    assert said.stdout == ""
    assert len(said.stderr.splitlines()) == 1, said.stderr


@contextlib.contextmanager
def pretender(info: bytes):
    """A server that answers every INFO with this text, and OK to the rest."""
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
    with pretender(b"redis_version:6.2.14\r\nmaxmemory_policy:noeviction\r\n") as url:
        with pytest.raises(redismr.UnfitServer, match=r"6\.2\.14.*needs Redis 7\.0"):
            redismr.Client(url, secret=SECRET)
        said = redismr_cli("worker", "--burst", url=url)
    assert said.returncode == 3
    assert "6.2.14" in said.stderr


def test_an_evicting_server_is_refused(server, client):
    server.config(maxmemory_policy="allkeys-lru")
    with pytest.raises(redismr.UnfitServer, match=r"allkeys-lru.*noeviction"):
        redismr.Client(server.url, secret=SECRET)
    said = redismr_cli("worker", "--burst", url=server.url)
    assert said.returncode == 3
    assert "allkeys-lru" in said.stderr


def test_a_server_lost_midway_is_an_error_within_patience(server, client):
    client._store.link.patience = 0.5
    job = client.submit([1], one, "sum")
    server.kill()
    with pytest.raises(redismr.StoreUnavailable, match="does not answer"):
        job.result()


def test_a_job_goes_on_when_the_server_is_back(server, client, crew, tmp_path):
    gate = tmp_path / "gate"

    def mapfn(x):
        while x == 5 and not gate.exists():
            time.sleep(0.01)
        return [(x % 3, x)]

    job = client.submit(range(20), mapfn, "list", chunk=1, lease=1)
    crew.worker(2)
    eventually(lambda: job.progress().maps_done >= 5)
    server.kill()
    gate.write_text("")
    crew.started[0].says("waiting for it")
    server.restart()
    assert dict(job.result(40)) == {k: [x for x in range(20) if x % 3 == k] for k in range(3)}
    crew.started[0].says("Redis is back")


def test_a_frozen_server_is_waited_for(server, client, crew):
    job = client.submit(range(5), one, "sum", chunk=1)
    server.pause()
    crew.worker(ready=False)
    server.resume()
    assert len(job.result(30)) == 5


# ------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("secret", "said"), [(None, "needs a shared secret"), ("short", "shorter than 16")]
)
def test_secret_missing_or_short(server, secret, said):
    with pytest.raises(redismr.ConfigError, match=said) as caught:
        redismr.Client(server.url, secret=secret)
    assert "redismr secret" in str(caught.value)
    done = redismr_cli("worker", "--burst", url=server.url, secret=secret)
    assert done.returncode == 2
    assert said in done.stderr


def test_attach_with_another_secret(server, client):
    job = client.submit([1], one)
    with (
        redismr.Client(server.url, secret=OTHER_SECRET) as other,
        pytest.raises(redismr.WrongSecret) as caught,
    ):
        other.attach(job.id)
    for its in (client, other):
        assert its._keyring.key_id in str(caught.value)


def test_a_worker_with_another_secret_takes_nothing_and_says_so(server, client, crew, tmp_path):
    marker = tmp_path / "ran"

    def mapfn(x):
        marker.write_text("")
        return one(x)

    job = client.submit([1], mapfn)
    stranger = crew.worker(secret=OTHER_SECRET)
    log = stranger.says("signed with secret")
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


def test_events_of_strangers_are_not_heard(server, client):
    with client._store.subscribed(None) as channel:
        channel.get(1)
        with redismr.Client(server.url, secret=OTHER_SECRET) as other:
            other.submit([1], one)
        message = eventually(lambda: channel.get(0.1))
    from redismr.core.events import decode

    assert decode(message, client._keyring) is None


# ------------------------------------------------------------------------- another Python


def test_another_python_is_reported_and_never_run(server, client, crew, tmp_path, monkeypatch):
    marker = tmp_path / "ran"

    def mapfn(x):
        marker.write_text("")
        return one(x)

    monkeypatch.setattr("redismr.client.specs.PYTHON", "3.9")
    job = client.submit([1], mapfn)
    worker = crew.worker()
    worker.says("needs Python 3.9")
    with pytest.raises(redismr.NoWorkers, match=r"Python 3\.9"):
        client.run([1], mapfn, wait_for_workers=0.2)
    assert not marker.exists()
    assert job.state == "mapping"


def test_a_clear_field_that_lies_about_python_runs_nothing(server, client, crew, monkeypatch):
    monkeypatch.setattr("redismr.client.specs.PYTHON", "3.9")
    job = client.submit([1], one, "sum")
    meta = next(key for key in server.client().scan_iter() if key.endswith(b":meta"))
    server.client().hset(meta, "python", f"3.{__import__('sys').version_info.minor}")
    crew.worker()
    with pytest.raises(redismr.JobFailed, match="python"):
        job.result(10)


# ------------------------------------------------------------------------- forged data


@pytest.mark.parametrize("name", ["spec", "code", "params"])
def test_forged_blobs_fail_the_job(server, client, crew, name):
    job = client.submit([1], one, "sum")
    raw: redis.Redis = server.client()
    key = next(key for key in raw.scan_iter() if key.endswith(f":{name}".encode()))
    blob = bytearray(raw.get(key))
    blob[-1] ^= 1
    raw.set(key, bytes(blob), keepttl=True)
    crew.worker()
    with pytest.raises((redismr.JobFailed, redismr.SealError)):
        job.result(15)


def test_a_forged_result_is_noticed(server, shared):
    job = shared.submit(range(50), one, "sum", partitions=2)
    job.wait(20)
    raw = server.client()
    key = next(key for key in raw.scan_iter() if key.endswith(b":result"))
    zero, one_ = raw.hget(key, "0"), raw.hget(key, "1")
    raw.hset(key, mapping={"0": one_, "1": zero})
    with pytest.raises(redismr.SealError):
        dict(job.result())
