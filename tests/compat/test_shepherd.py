"""Rows C6, C7 and C8: pools of workers as shepherd.py keeps them, as real processes."""

from __future__ import annotations

import signal

import pytest
from compat.conftest import PASSWORD, free_port

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
def herd(stage):
    """Starts ``python -m redismr.compat.shepherd`` for the port of the stage."""

    def start(*options, password=PASSWORD):
        words = ("-m", "redismr.compat.shepherd", "-p", password, "-P", stage.port)
        return stage.start(*words, *options)

    return start


def test_c7_n_clients_wait_for_a_server_and_end_with_it(stage, herd):
    clients = herd("-n", "2", "-s", "0.2")
    served = stage.run(stage.script(SERVE))
    assert served.stdout.strip() == WORDS, served.stderr
    assert clients.wait(40) == 0


def test_c7_with_8_they_work_for_one_server_after_another(stage, herd):
    clients = herd("-8", "-n", "2")
    for _ in range(2):
        assert stage.run(stage.script(SERVE)).stdout.strip() == WORDS
    assert clients.popen.poll() is None
    clients.send(signal.SIGINT)
    assert clients.wait(40) == 130


def test_c7_without_s_there_is_one_try_that_says_what_is_wrong(herd):
    once = herd("localhost")
    assert once.wait(40) == 3
    assert "refused" in once.log
    quiet = herd("-q")
    assert quiet.wait(40) == 3
    assert not quiet.log


def test_c7_another_password_is_said_however_patient_they_are(stage, herd):
    server = stage.start(stage.script(SERVE))
    server.says("waiting", 30)
    wrong = herd("-s", "0.2", "-8", password="guessed")
    assert wrong.wait(40) == 3
    assert "password" in wrong.log


def test_c8_run_is_a_server_and_its_workers_at_once(stage):
    ran = stage.run(stage.script("""
        from redismr.compat import shepherd

        for options in ({}, {"mapfn": shepherd.map_word_count, "reducefn": lambda k, vs: len(vs)}):
            datasource = {1: "x y", 2: "x"}
            results = shepherd.run(
                datasource=datasource, port=PORT, number_of_clients=2, **options
            )
            print(sorted(results.items()))
    """))  # fmt: skip
    assert ran.stdout.splitlines() == ["[(1, 'x y'), (2, 'x')]", "[('x', 2), ('y', 1)]"], ran.stderr


def test_c8_a_server_numbers_what_is_no_mapping(stage):
    ran = stage.run(stage.script("""
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


def test_c8_run_raises_what_a_function_does(stage):
    ran = stage.run(stage.script("""
        from redismr.compat import shepherd

        try:
            shepherd.run(datasource=[1], port=PORT, mapfn=lambda k, v: 1 / 0)
        except ZeroDivisionError as error:
            print(type(error).__name__)
    """))  # fmt: skip
    assert ran.stdout.strip() == "MapError", ran.stderr
