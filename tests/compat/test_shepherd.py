"""Rows C6, C7 and C8: pools of workers as shepherd.py keeps them, as real processes."""

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


def test_c7_n_clients_wait_for_a_server_and_end_with_it(sandbox, start_shepherd):
    clients = start_shepherd("-n", "2", "-s", "0.2")
    served = sandbox.run(sandbox.write_script(SERVE))
    assert served.stdout.strip() == WORDS, served.stderr
    assert clients.wait(40) == 0


def test_c7_with_8_they_work_for_one_server_after_another(sandbox, start_shepherd):
    clients = start_shepherd("-8", "-n", "2")
    for _ in range(2):
        assert sandbox.run(sandbox.write_script(SERVE)).stdout.strip() == WORDS
    assert clients.popen.poll() is None
    clients.send(signal.SIGINT)
    assert clients.wait(40) == 130


def test_c7_without_s_there_is_one_try_that_says_what_is_wrong(start_shepherd):
    once = start_shepherd("localhost")
    assert once.wait(40) == 3
    assert "refused" in once.log
    quiet = start_shepherd("-q")
    assert quiet.wait(40) == 3
    assert not quiet.log


def test_c7_another_password_is_said_however_patient_they_are(sandbox, start_shepherd):
    server = sandbox.start(sandbox.write_script(SERVE))
    server.wait_for_output("waiting", 30)
    wrong = start_shepherd("-s", "0.2", "-8", password="guessed")
    assert wrong.wait(40) == 3
    assert "password" in wrong.log


def test_c7_what_they_wait_for_is_said_once(sandbox, start_shepherd):
    quiet = start_shepherd("-8", "-q")
    patient = start_shepherd("-s", "0.01")
    patient.wait_for_output(f"waiting for a server at localhost:{sandbox.port}")
    astray = start_shepherd("-s", "0.01", "nosuch.invalid")
    astray.wait_for_output(f"cannot work for nosuch.invalid:{sandbox.port}")
    for clients in (quiet, patient, astray):
        clients.send(signal.SIGINT)
        assert clients.wait(40) == 130
    assert [clients.log.count("\n") for clients in (quiet, patient, astray)] == [0, 1, 1]


def test_c7_what_can_never_work_ends_them(start_shepherd):
    clients = start_shepherd("-s", "0.01", "-8", REDISMR_URL="redis://db.example:6379/0")
    assert clients.wait(40) == 3
    assert "needs a shared secret" in clients.log


def test_c8_run_ends_when_its_own_worker_does(sandbox):
    ran = sandbox.start(sandbox.write_script("""
        import time
        from redismr.compat import shepherd

        def mapfn(key, value):
            print("mapping")
            while True:
                time.sleep(0.01)

        shepherd.run(datasource=[1], port=PORT, mapfn=mapfn)
    """))  # fmt: skip
    ran.wait_for_output("mapping")
    kill_worker_of(ran)
    assert ran.wait(40) == 1
    assert "RuntimeError: the worker process ended by itself" in ran.log


def test_c7_a_worker_that_was_killed_is_said(sandbox, start_shepherd):
    sandbox.start(sandbox.write_script(SERVE)).wait_for_output("waiting", 30)
    clients = start_shepherd("-8", "-n", "2")
    kill_worker_of(clients)
    assert clients.wait(40) == 3
    assert f"cannot work for localhost:{sandbox.port}: the worker process ended" in clients.log


def kill_worker_of(process):
    """Kill its worker process, as soon as it has one."""

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


def test_c7_server_and_clients_are_siblings_in_pools_and_try_once(sandbox):
    """As shepherd.py keeps both over mincemeat.py: a client that is refused leaves for good, and
    the script waits for all of them. The first server's process is still there at the second run.
    """
    ran = sandbox.run(sandbox.write_script("""
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
    assert ran.stdout.splitlines() == [WORDS, WORDS], ran.stderr


def test_c8_run_is_a_server_and_its_workers_at_once(sandbox):
    ran = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        for options in ({}, {"mapfn": shepherd.map_word_count, "reducefn": lambda k, vs: len(vs)}):
            datasource = {1: "x y", 2: "x"}
            results = shepherd.run(
                datasource=datasource, port=PORT, number_of_clients=2, **options
            )
            print(sorted(results.items()))
    """))  # fmt: skip
    assert ran.stdout.splitlines() == ["[(1, 'x y'), (2, 'x')]", "[('x', 2), ('y', 1)]"], ran.stderr


def test_c8_a_server_numbers_what_is_no_mapping(sandbox):
    ran = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        print(sorted(shepherd.run(datasource=(n * n for n in range(4)), port=PORT).items()))
        print(shepherd.Server([5, 6]).datasource, shepherd.DEFAULT_PORT, shepherd.VERSION)
    """))  # fmt: skip
    assert ran.stdout.splitlines() == [
        "[(0, 0), (1, 1), (2, 4), (3, 9)]", "{0: 5, 1: 6} 11235 0.0.1"
    ], ran.stderr  # fmt: skip


def test_c8_the_functions_that_it_brings():
    assert list(shepherd.map_default(1, 2)) == [(1, 2)]
    assert [shepherd.reduce_default("k", vs) for vs in ([7], [7, 8])] == [7, [7, 8]]
    assert list(shepherd.map_word_count("k", "a b")) == [("a", 1), ("b", 1)]
    assert shepherd.reduce_word_count("a", [1, 2]) == 3


def test_c6_conn_raises_what_keeps_a_client_from_its_server():
    with pytest.raises(ConnectionRefusedError):
        shepherd.Client().conn("localhost", free_port())


def test_c8_run_raises_what_its_datasource_does(sandbox):
    ran = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        class Bad(dict):
            def __getitem__(self, key):
                raise PermissionError("no way")

        try:
            shepherd.run(datasource=Bad(a=1), port=PORT)
        except PermissionError as error:
            print(type(error).__name__, error)
    """))  # fmt: skip
    assert ran.stdout.startswith("SourceRaised the source raised PermissionError"), ran.stderr


def test_c8_run_raises_what_a_function_does(sandbox):
    ran = sandbox.run(sandbox.write_script("""
        from redismr.compat import shepherd

        try:
            shepherd.run(datasource=[1], port=PORT, mapfn=lambda k, v: 1 / 0)
        except ZeroDivisionError as error:
            print(type(error).__name__)
    """))  # fmt: skip
    assert ran.stdout.strip() == "MapError", ran.stderr
