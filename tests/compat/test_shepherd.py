"""Pools of workers as shepherd.py keeps them, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from compat.conftest import PASSWORD, free_port
from support import eventually
from system.processes import parent_of

from redismr.compat import shepherd

SERVE = """
from redismr.compat import shepherd

print(sorted(shepherd.run_server({
    "datasource": ["a b a", "b a"], "server": shepherd.WordCountServer,
    "password": "changeme", "port": PORT,
}).items()))
"""
WORDS = "[('a', 3), ('b', 2)]"


@pytest.fixture
def start_shepherd(sandbox):
    """Starts ``python -m redismr.compat.shepherd`` for the port of the sandbox."""

    def start(*options, password=PASSWORD, **env):
        words = ("-m", "redismr.compat.shepherd", "-p", password, "-P", sandbox.port)
        return sandbox.start(*words, *options, **env)

    return start


def test_n_clients_wait_for_a_server_and_end_with_it(sandbox, start_shepherd):
    clients = start_shepherd("-n", "2", "-s", "0.2")
    served = sandbox.run(sandbox.write_script(SERVE))
    assert served.stdout.strip() == WORDS, served.stderr
    assert clients.wait(40) == 0


def test_with_8_clients_work_for_one_server_after_another(sandbox, start_shepherd):
    clients = start_shepherd("-8", "-n", "2")
    for _ in range(2):
        assert sandbox.run(sandbox.write_script(SERVE)).stdout.strip() == WORDS
    assert clients.popen.poll() is None
    clients.send(signal.SIGINT)
    assert clients.wait(40) == 130


def test_without_s_there_is_one_try_and_the_error_is_reported(start_shepherd):
    once = start_shepherd("localhost")
    assert once.wait(40) == 3
    assert "refused" in once.log
    quiet = start_shepherd("-q")
    assert quiet.wait(40) == 3
    assert not quiet.log


def test_another_password_is_reported_to_patient_clients_too(sandbox, start_shepherd):
    server = sandbox.start(sandbox.write_script(SERVE))
    server.wait_for_output("waiting", 30)
    wrong = start_shepherd("-s", "0.2", "-8", password="guessed")
    assert wrong.wait(40) == 3
    assert "password" in wrong.log


def test_what_clients_wait_for_is_reported_once(sandbox, start_shepherd):
    quiet = start_shepherd("-8", "-q")
    patient = start_shepherd("-s", "0.01")
    patient.wait_for_output(f"waiting for a server at localhost:{sandbox.port}")
    astray = start_shepherd("-s", "0.01", "nosuch.invalid")
    astray.wait_for_output(f"cannot work for nosuch.invalid:{sandbox.port}")
    for clients in (quiet, patient, astray):
        clients.send(signal.SIGINT)
        assert clients.wait(40) == 130
    assert [clients.log.count("\n") for clients in (quiet, patient, astray)] == [0, 1, 1]


def test_errors_that_no_retry_mends_end_clients(start_shepherd):
    clients = start_shepherd("-s", "0.01", "-8", REDISMR_URL="redis://db.example:6379/0")
    assert clients.wait(40) == 3
    assert "needs a shared secret" in clients.log


def test_run_ends_when_the_worker_ends(sandbox):
    completed = sandbox.start(sandbox.write_script("""
        import time
        from redismr.compat import shepherd

        def mapfn(key, value):
            print("mapping")
            while True:
                time.sleep(0.01)

        shepherd.run(datasource=[1], port=PORT, mapfn=mapfn)
    """))  # fmt: skip
    completed.wait_for_output("mapping")
    kill_worker_of(completed)
    assert completed.wait(40) == 1
    assert "RuntimeError: the worker process ended by itself" in completed.log


def test_a_worker_that_was_killed_is_reported(sandbox, start_shepherd):
    sandbox.start(sandbox.write_script(SERVE)).wait_for_output("waiting", 30)
    clients = start_shepherd("-8", "-n", "2")
    kill_worker_of(clients)
    assert clients.wait(40) == 3
    assert f"cannot work for localhost:{sandbox.port}: the worker process ended" in clients.log


def kill_worker_of(process):
    """Kill the worker process of a client as soon as there is one."""

    def worker_pids():
        return [
            pid
            for pid in process.descendants()
            if parent_of(pid) == process.pid and is_worker_process(pid)
        ]

    os.kill(eventually(worker_pids)[0], signal.SIGKILL)


def is_worker_process(pid):
    output = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True)
    return "-m redismr.workers" in output.stdout


def test_server_and_clients_are_siblings_in_pools_and_try_once(sandbox):
    """Run both as shepherd.py does: a client that is refused leaves for good, and the script waits
    for all clients. The process of the first server still exists at the second run.
    """
    completed = sandbox.run(sandbox.write_script("""
        import multiprocessing
        from redismr.compat import mincemeat

        class Client(mincemeat.Client):
            def handle_error(self):
                raise

        def mapfn(key, text):
            for word in text.split():
                yield word, 1

        def reducefn(word, ones):
            return sum(ones)

        def serve():
            server = mincemeat.Server()
            server.datasource = dict(enumerate(["a b a", "b a"]))
            server.mapfn, server.reducefn = mapfn, reducefn
            called.set()
            return server.run_server(password="", port=PORT)

        def work():
            try:
                Client().conn("localhost", PORT, "")
            except ConnectionRefusedError:
                return "refused"

        fork = multiprocessing.get_context("fork")
        called, servers = fork.Event(), []
        for _ in range(2):
            servers.append(fork.Pool(1))
            results = servers[-1].apply_async(serve)
            called.wait()
            called.clear()
            with fork.Pool(2) as clients:
                output = [clients.apply_async(work) for _ in range(2)]
                clients.close()
                clients.join()
            assert None in [each.get() for each in output]
            print(sorted(results.get(10).items()))
    """))  # fmt: skip
    assert completed.stdout.splitlines() == [WORDS, WORDS], completed.stderr


def test_run_is_a_server_and_workers_at_once(sandbox):
    completed = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        for options in ({}, {"mapfn": shepherd.map_word_count, "reducefn": lambda k, vs: len(vs)}):
            datasource = {1: "x y", 2: "x"}
            results = shepherd.run(
                datasource=datasource, port=PORT, number_of_clients=2, **options
            )
            print(sorted(results.items()))
    """))  # fmt: skip
    printed = completed.stdout.splitlines()
    assert printed == ["[(1, 'x y'), (2, 'x')]", "[('x', 2), ('y', 1)]"], completed.stderr


def test_a_server_numbers_what_is_no_mapping(sandbox):
    completed = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        print(sorted(shepherd.run(datasource=(n * n for n in range(4)), port=PORT).items()))
        print(shepherd.Server([5, 6]).datasource, shepherd.DEFAULT_PORT, shepherd.VERSION)
    """))  # fmt: skip
    assert completed.stdout.splitlines() == [
        "[(0, 0), (1, 1), (2, 4), (3, 9)]", "{0: 5, 1: 6} 11235 0.0.1"
    ], completed.stderr  # fmt: skip


def test_functions_of_shepherd():
    assert list(shepherd.map_default(1, 2)) == [(1, 2)]
    assert [shepherd.reduce_default("k", vs) for vs in ([7], [7, 8])] == [7, [7, 8]]
    assert list(shepherd.map_word_count("k", "a b")) == [("a", 1), ("b", 1)]
    assert shepherd.reduce_word_count("a", [1, 2]) == 3


def test_conn_raises_what_keeps_a_client_from_its_server():
    with pytest.raises(ConnectionRefusedError):
        shepherd.Client().conn("localhost", free_port())


def test_run_raises_the_error_of_the_datasource(sandbox):
    completed = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        class Bad(dict):
            def __getitem__(self, key):
                raise PermissionError("no way")

        try:
            shepherd.run(datasource=Bad(a=1), port=PORT)
        except PermissionError as error:
            print(type(error).__name__, error)
    """))  # fmt: skip
    start = "SourceRaised the source raised PermissionError"
    assert completed.stdout.startswith(start), completed.stderr


def test_run_raises_the_error_of_a_function(sandbox):
    completed = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        try:
            shepherd.run(datasource=[1], port=PORT, mapfn=lambda k, v: 1 / 0)
        except ZeroDivisionError as error:
            print(type(error).__name__)
    """))  # fmt: skip
    assert completed.stdout.strip() == "MapError", completed.stderr
