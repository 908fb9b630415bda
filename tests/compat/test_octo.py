"""Rows J22 and C9: job files of octo.py, its server and its clients, as real processes."""

from __future__ import annotations

import signal
import socket
from types import SimpleNamespace

import pytest
from support import eventually
from system.crew import SECRET

from redismr.compat import hosting
from redismr.compat import octo as octopus

TRIANGULAR = """
source = dict(zip(range(100), range(100)))

def final(key, value):
    print(key, value)

def mapfn(key, value):
    for i in range(value + 1):
        yield key, i

def reducefn(key, value):
    return sum(value)
"""
NUMBERS = [f"{n} {n * (n + 1) // 2}" for n in range(100)]

WORDS = """
server = "localhost"
source = dict(enumerate(["Humpty Dumpty sat", "sat on a wall"]))

def mapfn(key, text):
    print("map on", key)
    for word in text.split():
        yield word.lower(), 1

def reducefn(word, counts):
    return word, len(counts)

def final(word, value):
    print(word, value)
"""


@pytest.fixture
def octo(stage):
    """Starts ``redismr octo`` with words, in the background."""
    return lambda *words, **env: stage.start(
        "-m", "redismr", "octo", *words, "-P", stage.port, **env
    )


def test_j22_final_is_called_on_the_server_in_sorted_key_order(stage, octo):
    file = stage.script(TRIANGULAR, "triangular.py")
    octo("client", "localhost")
    served = stage.run("-m", "redismr", "octo", "server", file, "-P", stage.port)
    assert served.returncode == 0, served.stderr
    assert served.stdout.splitlines() == NUMBERS


def test_j22_redismr_run_takes_the_same_file(stage):
    ran = stage.run("-m", "redismr", "run", stage.script(TRIANGULAR, "triangular.py"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == NUMBERS


def test_c9_clients_stay_and_wait_for_the_next_server(stage, octo):
    numbers = stage.script(TRIANGULAR, "triangular.py")
    words = stage.script(WORDS, "words.py")
    client = octo("client", "localhost", "-n", "2")
    for file, first in ((numbers, "0 0"), (words, "a ('a', 1)"), (numbers, "0 0")):
        server = octo("server", file)
        assert server.wait(40) == 0, server.log
        assert first in server.log
    assert client.popen.poll() is None
    assert "map on 0" in client.log
    client.send(signal.SIGINT)
    assert client.wait() == 130


def test_c9_a_client_is_told_its_server_by_the_file(stage, octo):
    file = stage.script(WORDS, "words.py")
    octo("client", file)
    server = octo("server", file)
    assert server.wait(40) == 0, server.log
    assert "humpty ('humpty', 1)" in server.log
    assert "sat ('sat', 2)" in server.log
    assert "map on" not in server.log


def test_octo_server_says_how_to_start_a_client(stage, octo):
    server = octo("server", stage.script(TRIANGULAR, "triangular.py"), "-p", "changeme")
    server.says(f"redismr octo client -p PASSWORD -P {stage.port} HOST")
    octo("client", "localhost", "-p", "changeme")
    assert server.wait(40) == 0
    assert NUMBERS[-1] in server.log


def test_octo_client_with_another_password_says_so_and_ends_with_3(stage, octo):
    server = octo("server", stage.script(TRIANGULAR, "triangular.py"), "-p", "changeme")
    server.says("waiting")
    client = octo("client", "localhost", "-p", "guessed")
    assert client.wait(40) == 3
    assert "password" in client.log


def test_octo_client_says_once_what_it_waits_for(stage, octo):
    client = octo("client", "localhost")
    client.says(f"waiting for a server at localhost:{stage.port}")
    server = octo("server", stage.script(TRIANGULAR, "triangular.py"))
    assert server.wait(40) == 0, server.log
    client.send(signal.SIGINT)
    assert client.wait() == 130
    assert client.log.count("waiting") == 1


def test_octo_client_says_that_it_uses_the_named_server(stage, octo, server):
    env = {"REDISMR_URL": server.url, "REDISMR_SECRET": SECRET}
    client = octo("client", "-p", "foo", "somewhere.invalid", **env)
    said = client.says("HOST and password are not used")
    assert f"waiting for a server of port {stage.port} at {server.url}" in said


@pytest.mark.parametrize("words", [("server", "triangular.py"), ("client", "localhost")])
def test_octo_does_not_take_a_port_for_a_password(stage, words):
    """octo.py's -p was the port."""
    refused = stage.run("-m", "redismr", "octo", words[0], "-p", "9000", words[1])
    assert refused.returncode == 2
    assert "write -P 9000" in refused.stderr


def test_octo_server_says_how_to_start_a_client_at_the_usual_port():
    host = SimpleNamespace(server=object(), port=18273, made_as=("", "changeme"))
    how = hosting.Host.how_to_join(host, "redismr octo client", octopus.DEFAULT_PORT)
    assert how == "redismr octo client -p PASSWORD HOST"


def test_octo_server_with_a_named_server_that_is_away_ends_with_3(stage, octo):
    env = {"REDISMR_URL": f"redis://127.0.0.1:{stage.port}/0", "REDISMR_SECRET": SECRET}
    server = octo("server", stage.script(TRIANGULAR, "triangular.py"), **env)
    assert server.wait(60) == 3, server.log


def test_final_says_that_its_keys_have_no_order(stage, octo):
    body = """
        source = {1: "a", 2: "b"}

        def mapfn(key, value):
            yield (None if key == 1 else key), value

        def final(key, value):
            print(key, value)
        """
    file = stage.script(body, "mixed.py")
    octo("client", "localhost")
    server = octo("server", file)
    here = stage.run("-m", "redismr", "run", file)
    assert server.wait(40) == here.returncode
    for said in (server.log, here.stderr):
        assert "final needs keys that can be ordered" in said
        assert "sorted()" not in said


def test_octo_server_without_a_password_is_for_this_machine_only(stage, octo):
    server = octo("server", stage.script(TRIANGULAR, "triangular.py"))
    server.says("Give -p PASSWORD to let others in")
    eventually(lambda: _connects("127.0.0.1", stage.port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    assert own.startswith("127.") or not _connects(own, stage.port)


def _connects(host, port):
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def test_octo_server_ends_with_1_when_its_functions_fail(stage, octo):
    file = stage.script(TRIANGULAR.replace("return sum(value)", "return 1 / 0"), "bad.py")
    octo("client", "localhost")
    server = octo("server", file)
    assert server.wait(40) == 1
    assert "ZeroDivisionError" in server.log


def test_octo_server_and_run_end_with_1_when_the_source_raises(stage, octo):
    body = TRIANGULAR.replace("dict(zip(range(100), range(100)))", "(1 // n for n in (1, 0))")
    file = stage.script(body, "bad.py")
    server = octo("server", file)
    ran = stage.run("-m", "redismr", "run", "-n", "1", file)
    assert (server.wait(40), ran.returncode) == (1, 1)
    assert "ZeroDivisionError" in server.log
    assert "ZeroDivisionError" in ran.stderr


def test_octo_server_says_that_its_port_is_taken(stage, octo):
    file = stage.script(TRIANGULAR, "triangular.py")
    octo("server", file).says("waiting")
    second = octo("server", file)
    assert second.wait(40) == 2
    assert f"cannot serve on port {stage.port}" in second.log


@pytest.mark.parametrize("server", [None, object()])
def test_results_are_shown_while_their_server_is_there(monkeypatch, server):
    done = []
    host = SimpleNamespace(client=None, server=server, release=lambda close: done.append("ended"))
    monkeypatch.setattr(octopus, "take", lambda *_, **__: host)
    monkeypatch.setattr(octopus.redismr, "run", lambda *_, **__: "results", raising=False)
    octopus.run_server([1], {}, lambda *shown: done.append(shown))
    assert done == [("results", server is not None), "ended"]
