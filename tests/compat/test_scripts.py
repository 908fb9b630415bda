"""Scripts for mincemeat.py as they are, and its worker command, as real processes."""

from __future__ import annotations

import ast
import signal
import socket

import pytest
from compat.conftest import PASSWORD
from support import eventually, is_running
from system.processes import SECRET, Processes, descendants_of

WORDS = {
    "a": 2, "on": 1, "great": 1, "Humpty": 3, "again": 1, "wall": 1, "Dumpty": 2, "men": 1,
    "had": 1, "all": 1, "together": 1, "King's": 2, "horses": 1, "All": 1, "Couldn't": 1,
    "fall": 1, "and": 1, "the": 2, "put": 1, "sat": 1,
}  # fmt: skip

EXAMPLE = """
    #!/usr/bin/env python
    import mincemeat

    data = ["Humpty Dumpty sat on a wall",
            "Humpty Dumpty had a great fall",
            "All the King's horses and all the King's men",
            "Couldn't put Humpty together again",
            ]
    # The data source can be any dictionary-like object
    datasource = dict(enumerate(data))

    def mapfn(k, v):
        for w in v.split():
            yield w, 1

    def reducefn(k, vs):
        result = sum(vs)
        return result

    s = mincemeat.Server()
    s.datasource = datasource
    s.mapfn = mapfn
    s.reducefn = reducefn

    results = s.run_server(password="changeme", port=PORT)
    print(results)
"""

SHIM = """
    from redismr.compat.mincemeat import *

    if __name__ == "__main__":
        run_client()
"""

HEAD = """
    import os, sys
    from redismr.compat import mincemeat

    def mapfn(k, v):
        yield v, k

    def reducefn(k, vs):
        return sum(vs)

    def server(datasource, **more):
        s = mincemeat.Server()
        s.datasource, s.mapfn, s.reducefn = datasource, mapfn, reducefn
        for name, value in more.items():
            setattr(s, name, value)
        return s
"""


def output_of(process):
    assert process.returncode == 0, process.stderr
    return ast.literal_eval(process.stdout)


def test_the_example_runs_unchanged_beside_a_shim(sandbox):
    """The worker is ``python mincemeat.py -p changeme HOST``, from the shim as well."""
    sandbox.write_script(SHIM, "mincemeat.py")
    example = sandbox.write_script(EXAMPLE, "example.py")
    words = ["mincemeat.py", "-p", PASSWORD, "-P", sandbox.port, "-l", "localhost"]
    sandbox.start(*words)
    assert output_of(sandbox.run(example)) == WORDS


def test_default_port_and_host(sandbox):
    """Script and worker use port 11235 on localhost; so do both commands."""
    for n, command in enumerate(("redismr.compat.mincemeat", "redismr mincemeat")):
        example = sandbox.write_script(
            EXAMPLE.replace(", port=PORT", "").replace(
                "import min", "from redismr.compat import min"
            )
        )
        script = sandbox.start(example)
        eventually(lambda: is_listening(11235), 20)
        worker = sandbox.start("-m", *command.split(), "-p", PASSWORD)
        assert script.wait() == 0, script.log
        assert ast.literal_eval(script.log.splitlines()[-1]) == WORDS
        assert worker.wait() == 0, (n, worker.log)


def test_version(sandbox):
    for command in ("redismr.compat.mincemeat", "redismr mincemeat"):
        completed = sandbox.run("-m", *command.split(), "--version")
        assert completed.stdout == "mincemeat.py 0.1.4\n"


def test_a_refused_client_is_reported(sandbox):
    """The exit status tells it; in mincemeat.py it was 0."""
    for command in ("redismr.compat.mincemeat", "redismr mincemeat"):
        completed = sandbox.run("-m", *command.split(), "-P", sandbox.port)
        assert completed.returncode == 3
        assert (
            completed.stderr
            == f"redismr: cannot work for localhost:{sandbox.port}: Connection refused\n"
        )


def test_a_wrong_password_is_reported(sandbox):
    """The server goes on. The worker of mincemeat.py left silently, with 0."""
    script = sandbox.start(
        sandbox.write_script(EXAMPLE.replace("import m", "from redismr.compat import m"))
    )
    eventually(lambda: is_listening(sandbox.port), 20)
    for options in ([], ["-l"]):
        wrong = sandbox.run(
            "-m", "redismr.compat.mincemeat", "-p", "wrong", "-P", sandbox.port, *options
        )
        assert wrong.returncode == 3
        assert "another password" in wrong.stderr
    sandbox.worker()
    assert script.wait() == 0
    assert ast.literal_eval(script.log.splitlines()[-1]) == WORDS


def test_nothing_but_our_server_is_talked_to(sandbox):
    with socket.create_server(("127.0.0.1", sandbox.port)) as listener:
        worker = sandbox.start("-m", "redismr.compat.mincemeat", "-P", sandbox.port, "127.0.0.1")
        line, _ = listener.accept()
        with line:
            assert line.recv(4096).startswith(b"AUTH redismr ")
            line.sendall(b"challenge:0123456789\n")
            assert worker.wait() == 3
    assert "no redismr server" in worker.log


def test_loop_reports_the_same_error_once(sandbox):
    with socket.create_server(("127.0.0.1", sandbox.port)) as listener:
        worker = sandbox.worker()
        for _ in range(3):
            line, _ = listener.accept()
            with line:
                line.recv(4096)
                line.sendall(b"challenge:0123456789\n")
    worker.wait_for_output(
        f"waiting for a server at localhost:{sandbox.port}"
    )  # the listener is closed
    assert worker.log.count("no redismr server") == 1
    assert worker.popen.poll() is None


def test_a_port_in_use_is_an_error_at_once(sandbox):
    """The port is free again when the script has ended (issue #6 of mincemeat.py)."""
    script = sandbox.write_script(
        HEAD
        + """
    import errno
    try:
        print(server({}).run_server(password="x", port=PORT))
    except OSError as exc:
        print(exc.errno == errno.EADDRINUSE, exc.filename, exc.strerror)
    """
    )
    with socket.create_server(("127.0.0.1", sandbox.port)):
        completed = sandbox.run(script)
        assert completed.stdout == f"True *:{sandbox.port} Address already in use\n"
    for _ in range(2):
        assert sandbox.run(script).stdout == "{}\n"


def test_one_server_is_run_many_times_by_the_same_worker(sandbox):
    worker = sandbox.worker()
    script = sandbox.write_script(
        HEAD
        + """
    s, ranks = server(None, mapfn=lambda k, v: [(k, v), (k, 1)]), {n: n for n in range(5)}
    for _ in range(100):
        s.datasource = ranks
        ranks = s.run_server(password=b"changeme", port=PORT)
    print(sorted(ranks.items()))
    """
    )
    found = sandbox.run(script)
    assert found.stdout == f"{[(n, n + 100) for n in range(5)]}\n", found.stderr
    assert worker.log in {"", f"redismr: waiting for a server at localhost:{sandbox.port}\n"}


def test_without_a_new_datasource_the_same_is_run_again(sandbox):
    sandbox.worker()
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    s = server({1: "a", 2: "b"})
    print(s.run_server("changeme", PORT) == s.run_server("changeme", PORT) == {"a": 1, "b": 2})
    s.datasource = {1: "c"}
    s.datasource = {1: "d"}
    print(s.run_server("changeme", PORT), s.datasource)
    """
        )
    )
    assert found.stdout == "True\n{'d': 1} {1: 'd'}\n", found.stderr


def test_names_of_mincemeats_globals(sandbox):
    """The script does not import hashlib, which mincemeat.py had. Names of the script stay."""
    sandbox.worker()
    found = sandbox.run(
        sandbox.write_script("""
    from redismr.compat import mincemeat
    os = "my own os"

    def digest(v):
        return hashlib.md5(v.encode()).hexdigest()

    def mapfn(k, v):
        def inner():
            return os, DEFAULT_PORT, random.__name__
        yield digest(v), inner()

    s = mincemeat.Server()
    s.datasource, s.mapfn, s.reducefn = {1: "x"}, mapfn, lambda k, vs: vs
    print(s.run_server(password="changeme", port=PORT), "hashlib" in globals())
    """)
    )
    digest = "9dd4e461268c8034f5c8564e155c67a6"
    assert found.stdout == f"{{'{digest}': [('my own os', 11235, 'random')]}} False\n", found.stderr


def test_also_for_functions_of_a_module_beside_the_script(sandbox):
    sandbox.worker()
    sandbox.write_script("def mapfn(k, v): yield hashlib.md5(v.encode()).hexdigest(), k", "jobs.py")
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    import jobs
    print(server({1: "x"}, mapfn=jobs.mapfn).run_server("changeme", PORT), hasattr(jobs, "hashlib"))
    """
        )
    )
    assert found.stdout == "{'9dd4e461268c8034f5c8564e155c67a6': 1} False\n", found.stderr


def test_prints_stay_on_the_worker(sandbox):
    worker = sandbox.worker()
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    def mapfn(k, v):
        print("mapping", k)
        yield k, 1
    s = server({1: "a"}, mapfn=mapfn)
    print(s.run_server("changeme", PORT))
    """
        )
    )
    assert found.stdout == "{1: 1}\n", found.stderr
    worker.wait_for_output("mapping 1")


def test_helper_modules_and_relative_paths(sandbox):
    """Modules beside the script travel. Modules beside the worker are found there. Relative paths
    are those of the worker."""
    there = sandbox.folder / "there"
    there.mkdir()
    (there / "input.txt").write_text("from the worker")
    (there / "workers_helper.py").write_text("NAME = 'the worker'")
    sandbox.write_script("def shout(text): return text.upper()", "helper.py")
    sandbox.worker(cwd=there)
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    import helper
    def mapfn(k, v):
        import workers_helper
        yield helper.shout(open(v).read()), workers_helper.NAME
    s = server({1: "input.txt"}, mapfn=mapfn, reducefn=lambda k, vs: vs)
    print(s.run_server("changeme", PORT))
    """
        )
    )
    assert found.stdout == "{'FROM THE WORKER': ['the worker']}\n", found.stderr


def test_an_empty_password_is_for_this_machine_only(sandbox):
    script = sandbox.start(
        sandbox.write_script(HEAD + "    print(server({1: 'a'}).run_server(port=PORT))")
    )
    output = script.wait_for_output("no password: only this machine can join")
    assert output.count("\n") == 1
    eventually(lambda: is_listening(sandbox.port), 20)
    others = socket.gethostbyname(socket.gethostname())
    assert others.startswith("127.") or not is_listening(sandbox.port, others)
    worker = sandbox.run("-m", "redismr.compat.mincemeat", "-P", sandbox.port)
    assert worker.returncode == 0, worker.stderr
    assert script.wait() == 0
    assert "{'a': 1}" in script.log


def test_a_password_lets_other_machines_in(sandbox):
    script = sandbox.start(
        sandbox.write_script(EXAMPLE.replace("import m", "from redismr.compat import m"))
    )
    eventually(lambda: is_listening(sandbox.port), 20)
    here = socket.gethostbyname(socket.gethostname())
    worker = sandbox.run("-m", "redismr.compat.mincemeat", "-p", PASSWORD, "-P", sandbox.port, here)
    assert worker.returncode == 0, worker.stderr
    assert script.wait() == 0, script.log


def test_waiting_for_workers_is_explained(sandbox):
    script = sandbox.start(
        sandbox.write_script(EXAMPLE.replace("import m", "from redismr.compat import m"))
    )
    output = script.wait_for_output("no workers yet")
    assert f"redismr mincemeat -p PASSWORD -P {sandbox.port} HOST" in output
    assert PASSWORD not in output


# ------------------------------------------------------------------- servers and workers go


FOREVER = (
    HEAD
    + """
    import pathlib, threading
    def mapfn(k, v):
        pathlib.Path("mapping").touch()
        threading.Event().wait()
    server({1: 1}, mapfn=mapfn).run_server("changeme", PORT)
"""
)


@pytest.mark.parametrize("loop", [False, True])
def test_a_server_gone_midway(sandbox, loop):
    """The worker ends with its server, with all processes; with -l it waits for the next server."""
    script = sandbox.start(sandbox.write_script(FOREVER))
    eventually(lambda: is_listening(sandbox.port), 20)
    worker = sandbox.worker(loop=loop)
    eventually((sandbox.folder / "mapping").exists, 20)
    descendants = worker.descendants()
    script.kill()
    eventually(lambda: not any(map(is_running, descendants)), 20)
    if loop:
        example = EXAMPLE.replace("import m", "from redismr.compat import m")
        assert output_of(sandbox.run(sandbox.write_script(example))) == WORDS
        assert worker.popen.poll() is None
    else:
        assert worker.wait() == 0, worker.log


def test_workers_join_and_leave_at_any_time(sandbox):
    """Another worker does a killed worker's task, though none was idle; mincemeat.py hung."""
    script = sandbox.start(
        sandbox.write_script(
            HEAD
            + """
    import pathlib, threading
    def mapfn(k, v):
        if not pathlib.Path("second").exists():
            pathlib.Path("mapping").touch()
            threading.Event().wait()
        yield v, k
    print(server({1: "a"}, mapfn=mapfn).run_server("changeme", PORT))
    """
        )
    )
    first = sandbox.worker()
    eventually((sandbox.folder / "mapping").exists, 20)
    (sandbox.folder / "second").touch()
    first.kill()
    sandbox.worker()
    assert script.wait(40) == 0
    assert "{'a': 1}" in script.log


def test_a_run_ends_with_its_results_though_a_worker_is_busy_with_a_duplicate(sandbox):
    """Idle workers stay connected meanwhile, and wait."""
    script = sandbox.start(
        sandbox.write_script(
            HEAD
            + """
    import pathlib, threading
    def mapfn(k, v):
        if k == 1 and not pathlib.Path("slow").exists():
            pathlib.Path("slow").touch()
            while not pathlib.Path("gate").exists():
                threading.Event().wait(0.01)
        yield v, k
    print(server(dict.fromkeys(range(8), "a"), mapfn=mapfn).run_server("changeme", PORT))
    """
        )
    )
    for _ in range(2):
        sandbox.worker()
    assert script.wait(60) == 0
    assert "{'a': 28}" in script.log
    assert (sandbox.folder / "slow").exists()


def test_ctrl_c_ends_the_worker_at_once(sandbox):
    script = sandbox.start(sandbox.write_script(FOREVER))
    worker = sandbox.worker()
    eventually((sandbox.folder / "mapping").exists, 20)
    descendants = worker.descendants()
    worker.send(signal.SIGINT)
    assert worker.wait() == 130
    eventually(lambda: not any(map(is_running, descendants)), 20)
    assert script.popen.poll() is None


def test_verbose(sandbox):
    """The log lines of mincemeat.py appear on stderr."""
    sandbox.start(sandbox.write_script(FOREVER))
    eventually(lambda: is_listening(sandbox.port), 20)
    for flag in ("-v", "-V"):
        sandbox.worker(flag).wait_for_output("INFO:mincemeat:Authenticated other end")


def test_executors(sandbox):
    """The client runs as many tasks at a time as -n says."""
    sandbox.worker("-n", "2")
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    import pathlib, threading
    def mapfn(k, v):
        pathlib.Path(v).touch()
        while not (pathlib.Path("a").exists() and pathlib.Path("b").exists()):
            threading.Event().wait(0.01)
        yield v, k
    print(sorted(server({1: "a", 2: "b"}, mapfn=mapfn).run_server("changeme", PORT).items()))
    """
        )
    )
    assert found.stdout == "[('a', 1), ('b', 2)]\n", found.stderr


# ------------------------------------------------------------------- library use


def test_a_client_in_the_users_script(sandbox):
    """Passwords may be str or bytes; a new Client works for the next server."""
    clients = sandbox.start(
        sandbox.write_script(
            """
    from redismr.compat import mincemeat
    for password in ("changeme", b"changeme"):
        refused = True
        while refused:
            client = mincemeat.Client()
            client.handle_error = lambda: None
            client.password = password
            client.conn("localhost", PORT)
            refused = not client.authenticated()
        print("worked", flush=True)
    """,
            "clients.py",
        )
    )
    example = sandbox.write_script(EXAMPLE.replace("import m", "from redismr.compat import m"))
    for times in (1, 2):
        assert output_of(sandbox.run(example)) == WORDS
        clients.wait_for_output("worked\n" * times)
    assert clients.wait() == 0


def test_handle_error_may_raise_out_of_conn(sandbox):
    found = sandbox.run(
        sandbox.write_script("""
    import socket
    from redismr.compat import mincemeat

    class Strict(mincemeat.Client):
        def handle_error(self):
            raise

    client = Strict()
    for _ in range(2):
        try:
            client.conn("localhost", PORT)
        except socket.error as exc:
            print(type(exc).__name__)
            client.__init__()
    """)
    )
    assert found.stdout == "ConnectionRefusedError\n" * 2, found.stderr
    assert found.stderr == ""


def test_functions_that_the_worker_has(sandbox):
    """The worker's own functions run if the server has mapfn=None or False, and no reducefn."""
    sandbox.start(
        sandbox.write_script(
            """
    from redismr.compat import mincemeat

    class Special(mincemeat.Client):
        factor = 3
        def mapfn(self, k, v):
            yield v, k * self.factor
        def handle_error(self):
            pass

    while True:
        client = Special()
        client.reducefn = lambda k, vs: [os.getcwd()[:0], sum(vs)]
        client.conn("localhost", PORT, "changeme")
    """,
            "special.py",
        )
    )
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    for more in ({"mapfn": None, "reducefn": None}, {"mapfn": False}, {"reducefn": False},
                 {"mapfn": False, "reducefn": None}):
        print(server({1: "a", 2: "a"}, **more).run_server("changeme", PORT))
    """
        )
    )
    assert found.stdout == "{'a': ['', 9]}\n{'a': 9}\n{'a': ['', 3]}\n{'a': [3, 6]}\n", found.stderr


def test_a_missing_mapfn_is_an_error(sandbox):
    """Unlike mincemeat.py, where each worker that joined was killed."""
    sandbox.worker()
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    server({1: "a"}, mapfn=None, reducefn=None).run_server("changeme", PORT)
    """
        )
    )
    assert found.returncode == 1
    assert "the server sent no mapfn, and this worker has none" in found.stderr
    assert found.stderr.count("/redismr/") == 1, found.stderr


def test_a_server_inside_a_mapfn(sandbox):
    """A job inside a job: first split files, then chunks (issue #3 of mincemeat.py)."""
    sandbox.worker()
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    def outer(k, v):
        import socket, threading
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        s = mincemeat.Server()
        s.datasource, s.mapfn, s.reducefn = {1: "a", 2: "a"}, mapfn, reducefn
        threading.Thread(target=s.conn, args=("nested", port), daemon=True).start()
        s.authenticated(10)
        client = mincemeat.Client()
        client.conn("127.0.0.1", port, "nested")
        s.finished(None)
        yield v, s.output[0][1]["a"]
    print(server({1: "x"}, mapfn=outer).run_server("changeme", PORT))
    """
        )
    )
    assert found.stdout == "{'x': 3}\n", found.stderr


def test_ctrl_c_in_the_script(sandbox):
    script = sandbox.start(sandbox.write_script(FOREVER))
    sandbox.worker()
    eventually((sandbox.folder / "mapping").exists, 20)
    descendants = descendants_of(script.pid)
    script.send(signal.SIGINT)
    assert script.wait() != 0
    assert script.log.rstrip().endswith("KeyboardInterrupt")
    assert script.log.count("/redismr/") == 1, script.log
    eventually(lambda: not any(map(is_running, descendants)), 20)


def test_redismr_url_names_another_server(sandbox, server, tmp_path):
    """The same script runs on a Redis: any redismr worker with the secret does the work."""
    processes = Processes(server.url, tmp_path / "processes")
    try:
        processes.worker()
        example = sandbox.write_script(EXAMPLE.replace("import m", "from redismr.compat import m"))
        found = sandbox.run(example, REDISMR_URL=server.url, REDISMR_SECRET=SECRET)
        assert output_of(found) == WORDS
        assert not is_listening(sandbox.port)
    finally:
        processes.close()


def test_redismr_url_for_the_worker_too(sandbox, server):
    """The worker works while the script runs, and ends with it."""
    named = {"REDISMR_URL": server.url, "REDISMR_SECRET": SECRET}
    alone = sandbox.run("-m", "redismr.compat.mincemeat", **named)
    assert alone.returncode == 3
    example = sandbox.write_script(EXAMPLE.replace("import m", "from redismr.compat import m"))
    script = sandbox.start(example, **named)
    sandbox.worker(**named)
    assert script.wait() == 0, script.log
    assert ast.literal_eval(script.log.splitlines()[-1]) == WORDS


def is_listening(port, host="127.0.0.1"):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
