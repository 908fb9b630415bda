"""Job files of octo.py, its server and its clients, as real processes."""

from __future__ import annotations

import signal
import socket
from types import SimpleNamespace

import pytest
from support import eventually
from system.processes import SECRET

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
def octo(sandbox):
    """Starts ``redismr octo`` with these arguments, in the background."""
    return lambda *words, **env: sandbox.start(
        "-m", "redismr", "octo", *words, "-P", sandbox.port, **env
    )


def test_final_is_called_on_the_server_in_sorted_key_order(sandbox, octo):
    file = sandbox.write_script(TRIANGULAR, "triangular.py")
    octo("client", "localhost")
    served = sandbox.run("-m", "redismr", "octo", "server", file, "-P", sandbox.port)
    assert served.returncode == 0, served.stderr
    assert served.stdout.splitlines() == NUMBERS


def test_redismr_run_takes_the_same_file(sandbox):
    ran = sandbox.run("-m", "redismr", "run", sandbox.write_script(TRIANGULAR, "triangular.py"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == NUMBERS


def test_clients_stay_and_wait_for_the_next_server(sandbox, octo):
    numbers = sandbox.write_script(TRIANGULAR, "triangular.py")
    words = sandbox.write_script(WORDS, "words.py")
    client = octo("client", "localhost", "-n", "2")
    for file, first in ((numbers, "0 0"), (words, "a ('a', 1)"), (numbers, "0 0")):
        server = octo("server", file)
        assert server.wait(40) == 0, server.log
        assert first in server.log
    assert client.popen.poll() is None
    assert "map on 0" in client.log
    client.send(signal.SIGINT)
    assert client.wait() == 130


def test_a_client_gets_the_server_from_the_file(sandbox, octo):
    file = sandbox.write_script(WORDS, "words.py")
    octo("client", file)
    server = octo("server", file)
    assert server.wait(40) == 0, server.log
    assert "humpty ('humpty', 1)" in server.log
    assert "sat ('sat', 2)" in server.log
    assert "map on" not in server.log


def test_octo_server_says_how_to_start_a_client(sandbox, octo):
    server = octo("server", sandbox.write_script(TRIANGULAR, "triangular.py"), "-p", "changeme")
    server.wait_for_output(f"redismr octo client -p PASSWORD -P {sandbox.port} HOST")
    octo("client", "localhost", "-p", "changeme")
    assert server.wait(40) == 0
    assert NUMBERS[-1] in server.log


def test_octo_client_with_another_password_says_so_and_ends_with_3(sandbox, octo):
    server = octo("server", sandbox.write_script(TRIANGULAR, "triangular.py"), "-p", "changeme")
    server.wait_for_output("waiting")
    client = octo("client", "localhost", "-p", "guessed")
    assert client.wait(40) == 3
    assert "password" in client.log


def test_octo_client_reports_once_what_is_waited_for(sandbox, octo):
    client = octo("client", "localhost")
    client.wait_for_output(f"waiting for a server at localhost:{sandbox.port}")
    server = octo("server", sandbox.write_script(TRIANGULAR, "triangular.py"))
    assert server.wait(40) == 0, server.log
    client.send(signal.SIGINT)
    assert client.wait() == 130
    assert client.log.count("waiting") == 1


def test_octo_client_reports_that_the_named_server_is_used(sandbox, octo, server):
    env = {"REDISMR_URL": server.url, "REDISMR_SECRET": SECRET}
    client = octo("client", "-p", "foo", "somewhere.invalid", **env)
    output = client.wait_for_output("HOST and password are not used")
    assert f"waiting for a server of port {sandbox.port} at {server.url}" in output


@pytest.mark.parametrize("words", [("server", "triangular.py"), ("client", "localhost")])
def test_octo_does_not_take_a_port_for_a_password(sandbox, words):
    """The -p of octo.py was the port."""
    refused = sandbox.run("-m", "redismr", "octo", words[0], "-p", "9000", words[1])
    assert refused.returncode == 2
    assert "write -P 9000" in refused.stderr


def test_octo_server_says_how_to_start_a_client_at_the_usual_port():
    host = SimpleNamespace(server=object(), port=18273, bind_and_password=("", "changeme"))
    how = hosting.HostedServer.how_to_join(host, "redismr octo client", octopus.OCTO_PORT)
    assert how == "redismr octo client -p PASSWORD HOST"


def test_octo_server_with_a_named_server_that_is_away_ends_with_3(sandbox, octo):
    env = {"REDISMR_URL": f"redis://127.0.0.1:{sandbox.port}/0", "REDISMR_SECRET": SECRET}
    server = octo("server", sandbox.write_script(TRIANGULAR, "triangular.py"), **env)
    assert server.wait(60) == 3, server.log


def test_final_says_that_its_keys_have_no_order(sandbox, octo):
    body = """
        source = {1: "a", 2: "b"}

        def mapfn(key, value):
            yield (None if key == 1 else key), value

        def final(key, value):
            print(key, value)
        """
    file = sandbox.write_script(body, "mixed.py")
    octo("client", "localhost")
    server = octo("server", file)
    here = sandbox.run("-m", "redismr", "run", file)
    assert server.wait(40) == here.returncode
    for output in (server.log, here.stderr):
        assert "final needs keys that can be ordered" in output
        assert "sorted()" not in output


def test_octo_server_without_a_password_is_for_this_machine_only(sandbox, octo):
    server = octo("server", sandbox.write_script(TRIANGULAR, "triangular.py"))
    server.wait_for_output("Give -p PASSWORD to let others in")
    eventually(lambda: _connects("127.0.0.1", sandbox.port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    assert own.startswith("127.") or not _connects(own, sandbox.port)


def _connects(host, port):
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def test_octo_server_ends_with_1_when_functions_fail(sandbox, octo):
    file = sandbox.write_script(TRIANGULAR.replace("return sum(value)", "return 1 / 0"), "bad.py")
    octo("client", "localhost")
    server = octo("server", file)
    assert server.wait(40) == 1
    assert "ZeroDivisionError" in server.log


def test_octo_server_and_run_end_with_1_when_the_source_raises(sandbox, octo):
    body = TRIANGULAR.replace("dict(zip(range(100), range(100)))", "(1 // n for n in (1, 0))")
    file = sandbox.write_script(body, "bad.py")
    server = octo("server", file)
    ran = sandbox.run("-m", "redismr", "run", "-n", "1", file)
    assert (server.wait(40), ran.returncode) == (1, 1)
    assert "ZeroDivisionError" in server.log
    assert "ZeroDivisionError" in ran.stderr


def test_octo_server_says_that_its_port_is_taken(sandbox, octo):
    file = sandbox.write_script(TRIANGULAR, "triangular.py")
    octo("server", file).wait_for_output("waiting")
    second = octo("server", file)
    assert second.wait(40) == 2
    assert f"cannot serve on port {sandbox.port}" in second.log


@pytest.mark.parametrize("server", [None, object()])
def test_results_are_shown_while_their_server_is_there(monkeypatch, server):
    done = []
    host = SimpleNamespace(client=None, server=server, release=lambda close: done.append("ended"))
    monkeypatch.setattr(octopus, "acquire_server", lambda *_, **__: host)
    monkeypatch.setattr(octopus.redismr, "run", lambda *_, **__: "results", raising=False)
    octopus.run_server([1], {}, lambda *shown: done.append(shown))
    assert done == [("results", server is not None), "ended"]
