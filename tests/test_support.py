"""The test server itself, on which the other tests rely."""

from __future__ import annotations

import threading

import pytest
import redis
from support import Server, eventually, is_running


def test_acknowledged_writes_survive_kill_and_restart(server: Server) -> None:
    client = server.client()
    client.set("redismr:x", 1, px=60_000)
    before, pid = client.info("server")["run_id"], server.pid
    server.kill()
    assert not is_running(pid)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    server.restart()
    assert client.get("redismr:x") == b"1"
    assert client.info("server")["run_id"] != before
    server.restart(keep=False)
    assert client.get("redismr:x") is None


def test_a_paused_server_does_not_answer_until_it_is_resumed(server: Server) -> None:
    client = server.client(socket_timeout=0.05)
    assert client.ping()
    server.pause()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    server.resume()
    assert eventually(server.client().ping)


def test_reset_undoes_what_a_test_did(server: Server) -> None:
    client = server.client()
    client.set("redismr:x", 1, px=60_000)
    server.config(maxmemory="64mb", hz=50)
    server.config(maxmemory="65mb")
    server.pause()
    server.reset()
    client = server.client()
    assert client.dbsize() == 0
    assert client.config_get("maxmemory", "hz") == {"maxmemory": "0", "hz": "10"}


def test_a_server_started_in_a_thread_outlives_it(server: Server) -> None:
    thread = threading.Thread(target=server.restart)
    thread.start()
    thread.join()
    assert all(server.client().ping() for _ in range(20))


def test_keys_without_ttl_are_found(server: Server) -> None:
    client = server.client()
    client.set("redismr:mortal", 1, px=60_000)
    client.set("redismr:immortal", 1)
    client.set("other", 1)
    assert server.keys_without_ttl() == ["redismr:immortal"]
    client.delete("redismr:immortal")


def test_the_server_is_empty_and_is_the_one_that_was_started(server: Server) -> None:
    client = server.client()
    assert client.dbsize() == 0
    assert int(client.info("server")["process_id"]) == server.pid
    assert client.info("server")["tcp_port"] == 0
    assert len(server.secret) >= 32


def test_eventually_names_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match="the moon"):
        eventually(lambda: 0, timeout=0.01, message="the moon")
    with pytest.raises(AssertionError, match="last value: 0"):
        eventually(lambda: 0, timeout=0.01)
    answers = iter([0, None, "", "yes"])
    assert eventually(lambda: next(answers)) == "yes"
