"""Workers that a script starts itself, and functions that workers have of their own."""

from __future__ import annotations

import pytest
from compat.test_scripts import EXAMPLE, HEAD, WORDS, is_listening, output_of
from support import eventually
from system.processes import ONE_SERVER_KIND, SECRET

OWN_WORKERS = (
    HEAD
    + """
    import multiprocessing, subprocess, threading

    s = server({1: "a", 2: "a"})

    def client():
        c = mincemeat.Client()
        c.handle_error = lambda: None
        c.password = "changeme"
        while not c.authenticated():
            if over.is_set():
                break
            c.conn("", PORT)
        print("client over", flush=True)
"""
)


@ONE_SERVER_KIND
@pytest.mark.parametrize(("join", "named"), [(False, False), (True, False), (True, True)])
def test_children_of_the_script_end_with_its_run(sandbox, server, join, named):
    """Else a script that waits for them, as multiprocessing does at exit, would wait for ever,
    because the server is kept until the script ends. mincemeat.py's children ended as well."""
    env = {"REDISMR_URL": server.url, "REDISMR_SECRET": SECRET} if named else {}
    script = sandbox.start(
        sandbox.write_script(
            OWN_WORKERS
            + f"""
    over = multiprocessing.Event()
    children = [multiprocessing.get_context("fork").Process(target=client) for _ in range(2)]
    for child in children:
        child.start()
    print(s.run_server("changeme", PORT), flush=True)
    over.set()
    if {join}:
        for child in children:
            child.join()
    print("the end", flush=True)
    """
        ),
        **env,
    )
    assert script.wait() == 0, script.log
    assert "{'a': 3}" in script.log
    assert script.log.count("client over") == 2


def test_a_worker_command_that_the_script_starts_ends_with_its_run(sandbox):
    """Also if a shell started it. A worker that comes later is refused."""
    script = sandbox.start(
        sandbox.write_script(
            OWN_WORKERS
            + """
    command = f"{sys.executable} -m redismr.compat.mincemeat -p changeme -P PORT"
    def start():
        s.authenticated(None)
        started.append(subprocess.Popen(command + "; exit $?", shell=True))
    started, starter = [], threading.Thread(target=start)
    starter.start()
    print(s.run_server("changeme", PORT), flush=True)
    starter.join()
    print("status", started[0].wait(), flush=True)
    print("status", subprocess.run(command.split()).returncode, flush=True)
    print("status", subprocess.run([*command.split(), "127.0.0.1"]).returncode, flush=True)
    """
        )
    )
    assert script.wait() == 0, script.log
    assert "{'a': 3}\nstatus 0\n" in script.log
    assert script.log.count("Connection refused\nstatus 3\n") == 2


def test_with_loop_a_worker_stays_for_the_next_run(sandbox):
    script = sandbox.start(
        sandbox.write_script(
            OWN_WORKERS
            + """
    words = [sys.executable, "-m", "redismr.compat.mincemeat", "-lp", "changeme", "-P", "PORT"]
    child = subprocess.Popen(words)
    pids = set()
    for _ in range(3):
        print(s.run_server("changeme", PORT), flush=True)
        pids |= {worker.pid for worker in s._hosted_server.client.workers()}
    print("workers:", len(pids), flush=True)
    child.terminate()
    """
        )
    )
    assert script.wait() == 0, script.log
    assert script.log.endswith("{'a': 3}\n" * 3 + "workers: 1\n")


def test_threads_that_are_late_for_a_run_end_with_it(sandbox):
    """At exit Python joins threads before anything else."""
    script = sandbox.start(
        sandbox.write_script(
            OWN_WORKERS
            + """
    over = threading.Event()
    threading.Thread(target=client).start()
    print(s.run_server("changeme", PORT), flush=True)
    over.set()
    c = mincemeat.Client()
    thread = threading.Thread(target=c.conn, args=("", PORT, "changeme"))
    thread.start()
    thread.join()
    print(repr(c.error), flush=True)
    """
        )
    )
    assert script.wait() == 0, script.log
    assert "{'a': 3}" in script.log
    assert "ConnectionRefusedError" in script.log


def test_children_of_a_server_that_is_never_closed(sandbox):
    """The port is closed before the children are joined."""
    script = sandbox.start(
        sandbox.write_script(
            OWN_WORKERS
            + """
    over = multiprocessing.Event()
    s.cycle = mincemeat.TaskManager.PERMANENT
    s.run_server("changeme", PORT, asynchronous=True)
    multiprocessing.get_context("fork").Process(target=client).start()
    while not (found := s.results()):
        threading.Event().wait(0.01)
    print(found, flush=True)
    """
        )
    )
    assert script.wait() == 0, script.log
    assert "{'a': 3}\n" in script.log
    assert "client over" in script.log


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_conn_as_the_target_of_a_process(sandbox, method):
    """Every start method passes the password and the functions on."""
    script = sandbox.start(
        sandbox.write_script(
            f"""
    import multiprocessing, sys, threading
    from redismr.compat import mincemeat

    def mapfn(k, v):
        yield v, k

    def reducefn(k, vs):
        return sum(vs)

    if __name__ == "__main__":
        c = mincemeat.Client()
        c.password, c.mapfn = "changeme", mapfn
        start = multiprocessing.get_context("{method}").Process
        child = start(target=c.conn, args=("", PORT), daemon=True)
        s = mincemeat.Server()
        s.datasource, s.mapfn, s.reducefn = {{1: "a", 2: "a"}}, False, reducefn
        def begin():
            s.authenticated(None)
            child.start()
        threading.Thread(target=begin).start()
        print(s.run_server("changeme", PORT), flush=True)
        child.join()
    """
        )
    )
    assert script.wait() == 0, script.log
    assert "{'a': 3}" in script.log


# ------------------------------------------------------------------- functions of its own


def test_own_functions_that_do_not_pickle_are_an_error(sandbox):
    """The error names the function; mincemeat.py never sent such functions anywhere."""
    script = sandbox.start(
        sandbox.write_script(
            HEAD
            + """
    import threading
    class Locked(mincemeat.Client):
        def __init__(self, **options):
            super().__init__(**options)
            self.lock = threading.Lock()
        def mapfn(self, k, v):
            yield v, k
    s = mincemeat.Server(map={})
    s.run_server("changeme", PORT, asynchronous=True)
    c = Locked(map={})
    c.conn("", PORT, "changeme")
    d = mincemeat.Client_daemon({"port": PORT, "password": "changeme"}, cls=Locked)
    d.start()
    d.endpoint.ended(None)
    print(c.finished(), d.state(), flush=True)
    """
        )
    )
    assert script.wait() == 0, script.log
    trouble = (
        "the client's mapfn cannot be sent to executors: it uses the attribute 'lock', a _thread.lo"
    )
    assert script.log.count(trouble) == 3
    assert f"False failed: {trouble}" in script.log
    assert "Traceback" not in script.log


def test_own_functions_of_any_size(sandbox):
    """They may be larger than an environment variable (128 KB); several executors read them."""
    sandbox.start(
        sandbox.write_script(
            """
    from redismr.compat import mincemeat
    many = {n: str(n) * 5 for n in range(30_000)}
    class Large(mincemeat.Client):
        executors = 2
        def mapfn(self, k, v):
            yield v, len(many)
        def handle_error(self):
            pass
    while True:
        Large().conn("", PORT, "changeme")
    """,
            "large.py",
        )
    )
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    source = dict.fromkeys(range(40), "a")
    print(server(source, mapfn=False).run_server("changeme", PORT))
    """
        )
    )
    assert found.stdout == "{'a': 1200000}\n", found.stderr


# ------------------------------------------------------------------- what tasks may do


def test_a_script_that_a_mapfn_runs(sandbox):
    """The script is another process, with a server and a port of its own."""
    inner = sandbox.folder / "inner.py"
    inner.write_text(
        """
import sys, threading
from redismr.compat import mincemeat
s = mincemeat.Server()
s.datasource, s.mapfn = {1: "inner"}, lambda k, v: [(v, k)]
port = int(sys.argv[1])
c = mincemeat.Client()
def work():
    s.authenticated(None)
    c.conn("", port, "other")
threading.Thread(target=work).start()
print(s.run_server("other", port))
"""
    )
    sandbox.worker()
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + f"""
    def mapfn(k, v):
        import socket, subprocess
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = [sys.executable, {str(inner)!r}, str(port)]
        yield k, subprocess.run(words, capture_output=True, text=True).stdout
    print(server({{1: "a"}}, mapfn=mapfn, reducefn=None).run_server("changeme", PORT))
    """
        )
    )
    assert found.stdout == """{1: ["{'inner': [1]}\\n"]}\n""", found.stderr


@pytest.mark.parametrize(("flag", "shown"), [("", "WE"), ("-v", "IWE"), ("-V", "DIWE")])
def test_what_functions_log_is_seen_on_the_worker(sandbox, flag, shown):
    worker = sandbox.worker(*[flag] * bool(flag))
    body = """
    def mapfn(k, v):
        import logging
        for level in (10, 20, 30, 40):
            logging.log(level, "logged for %s at %s", v, level)
        yield v, k
    print(server({1: "a"}, mapfn=mapfn).run_server("changeme", PORT))
    """
    assert sandbox.run(sandbox.write_script(HEAD + body)).stdout == "{'a': 1}\n"
    worker.wait_for_output("ERROR:root:logged for a at 40")
    lines = [line for line in worker.log.splitlines() if "root:logged for a at" in line]
    assert [line[0] for line in lines] == list(shown)


def test_basicconfig_in_a_function_holds(sandbox):
    worker = sandbox.worker()
    body = """
    def mapfn(k, v):
        import logging
        logging.basicConfig(level=10, format="mine: %(message)s")
        logging.debug("heard")
        yield v, k
    print(server({1: "a"}, mapfn=mapfn).run_server("changeme", PORT))
    """
    assert sandbox.run(sandbox.write_script(HEAD + body)).stdout == "{'a': 1}\n"
    worker.wait_for_output("mine: heard")


# ------------------------------------------------------------------- servers


def test_workers_with_loop_work_for_all_runs_and_others_for_one(sandbox):
    """Workers end with a run wherever they were started, as in mincemeat.py; the text about the
    next run says so."""
    script = sandbox.start(
        sandbox.write_script(
            HEAD
            + """
    import threading
    def runs():
        s = server(None)
        for n in range(3):
            s.datasource = {n: "a"}
            print(s.run_server("changeme", PORT), flush=True)
    thread = threading.Thread(target=runs)
    thread.start()
    thread.join()
    """
        )
    )
    eventually(lambda: is_listening(sandbox.port), 20)
    once = sandbox.worker(loop=False)
    assert once.wait() == 0, once.log
    script.wait_for_output(f"redismr mincemeat -l -p PASSWORD -P {sandbox.port} HOST")
    worker = sandbox.worker()
    assert script.wait() == 0, script.log
    assert worker.popen.poll() is None
    assert [line for line in script.log.splitlines() if line[0] == "{"] == [
        f"{{'a': {n}}}" for n in range(3)
    ]


def test_with_loop_a_worker_follows_the_port_to_another_server(sandbox):
    """Each run frees the port, also if its process goes on."""
    sandbox.worker()
    script = sandbox.start(
        sandbox.write_script(
            HEAD
            + """
    import multiprocessing

    def serve(n):
        return server({n: "a"}).run_server("changeme", PORT)

    pools = []
    for n in range(2):
        pools.append(multiprocessing.get_context("fork").Pool(1))
        print(pools[-1].apply(serve, [n]), flush=True)
    """
        )
    )
    assert script.wait(40) == 0, script.log
    assert [line for line in script.log.splitlines() if line[0] == "{"] == ["{'a': 0}", "{'a': 1}"]


def test_a_datasource_of_the_class(sandbox):
    sandbox.worker()
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    class Mine(mincemeat.Server):
        datasource = {1: "a"}
        mapfn, reducefn = staticmethod(mapfn), staticmethod(reducefn)
    class Made(Mine):
        @property
        def datasource(self):
            return {2: "b"}
    for kind in (Mine, Made):
        s = kind()
        print(s.run_server("changeme", PORT), s.run_server("changeme", PORT))
    s = Mine()
    s.datasource = {3: "c"}
    print(s.run_server("changeme", PORT))
    s = Mine()
    s.set_datasource({4: "d"})
    print(s.run_server("changeme", PORT))
    """
        )
    )
    expected = "{'a': 1} {'a': 1}\n{'b': 2} {'b': 2}\n{'c': 3}\n{'d': 4}\n"
    assert found.stdout == expected, found.stderr


def test_bad_hosts_and_passwords_are_reported(sandbox):
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    for password, interface in (("x", "no.such.host.example"), ("half \\ud800", "")):
        try:
            server({1: "a"}).run_server(password, PORT, interface)
        except (OSError, ValueError) as exc:
            print(type(exc).__name__, "password" in str(exc), "half of" in str(exc))
    """
        )
    )
    assert found.stdout == "gaierror False False\nValueError True True\n", found.stderr


def test_a_password_of_bytes_that_are_no_text(sandbox):
    """The same bytes are accepted on the worker's command line as well."""
    sandbox.worker(password="\udcff x")
    example = EXAMPLE.replace("import m", "from redismr.compat import m")
    example = example.replace('"changeme"', 'b"\\xff x"')
    assert output_of(sandbox.run(sandbox.write_script(example))) == WORDS


def test_a_command_that_is_too_large_is_an_error(sandbox):
    """Redis disconnects a slow reader of large messages, and no error would be seen."""
    found = sandbox.run(
        sandbox.write_script(
            HEAD
            + """
    import threading
    there = threading.Event()
    class Hearing(mincemeat.Client):
        def unrecognized_command(self, command, data=None, txn=None):
            if command == "all":
                there.set()
            print(command, len(data), flush=True)
            return True
    s = mincemeat.Server(map={})
    s.run_server("changeme", PORT, asynchronous=True)
    c = Hearing(map={})
    c.conn("", PORT, "changeme", asynchronous=True)
    s.send_command("large", b"x" * 15_000_000)
    try:
        s.send_command("larger", b"x" * 17_000_000)
    except ValueError as exc:
        print(exc, flush=True)
    s.send_command("all", "")
    there.wait(30)
    """
        )
    )
    lines = found.stdout.splitlines()
    assert "large 15000000" in lines, found.stderr
    assert lines[-1] == "all 0"
    assert any("'larger' takes 17 MB, and at most 17 can" in line for line in lines)
