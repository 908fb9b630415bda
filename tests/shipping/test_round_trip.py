"""Code packed by a script in one process and run in another that has nothing but redismr."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shipping.conftest import SHIP, RoundTrip


def test_closures_lambdas_globals_and_imports(round_trip: RoundTrip) -> None:
    round_trip.submit("""
import re
from collections import Counter as C
LIMIT = 3
def factory(n):
    def mapfn(key, value):
        yield key, [C(re.findall("[a-z]", value)).most_common(1), n, LIMIT]
    return mapfn
print("the script runs")
ship({"mapfn": factory(7), "reducefn": lambda k, vs: sum(vs), "combinefn": "sum",
      "partitionfn": None, "initfn": len})
""")
    out = round_trip.run_on_worker("""
print(list(f["mapfn"]("k", "aab")), f["reducefn"]("k", [1, 2]), f["combinefn"], f["partitionfn"],
      f["initfn"] is len)""")
    assert out == "[('k', [[('a', 2)], 7, 3])] 3 sum None True"


def test_functions_share_the_globals_that_initfn_sets(round_trip: RoundTrip) -> None:
    round_trip.submit("""
conn = None
def initfn():
    global conn
    conn = "open"
def mapfn(k, v):
    return [(k, conn)]
ship({"initfn": initfn, "mapfn": mapfn})
""")
    assert round_trip.run_on_worker('f["initfn"](); print(f["mapfn"](1, 2))') == "[(1, 'open')]"


def test_helper_modules_and_what_they_import(round_trip: RoundTrip) -> None:
    round_trip.write(
        helper="import deeper\ndef words(t):\n    return deeper.split(t)\n",
        deeper="def split(t):\n    import lazy\n    return lazy.SEP.join(t.split())\n",
        lazy="SEP = '-'\n",
        unrelated="raise SystemExit('nobody imports me')\n",
    ).submit("""
import helper
def mapfn(k, v):
    return helper.words(v)
ship({"mapfn": mapfn})
""")
    out = round_trip.run_on_worker("""
print(f["mapfn"](1, "a b"))
import helper, importlib.util
print(helper.__file__.endswith("helper.py"), importlib.util.find_spec("unrelated"))""")
    assert out.splitlines() == ["a-b", "True None"]


def test_an_import_in_a_function_that_never_ran_here(round_trip: RoundTrip) -> None:
    round_trip.write(late="def shout(x):\n    return x.upper()\n").submit("""
import sys
def mapfn(k, v):
    from late import shout
    return shout(v)
assert "late" not in sys.modules
ship({"mapfn": mapfn})
assert "late" not in sys.modules
""")
    assert round_trip.run_on_worker('print(f["mapfn"](1, "x"))') == "X"


def test_packages_submodules_and_relative_imports(round_trip: RoundTrip) -> None:
    round_trip.write(
        pkg__of____init__="from .base import BASE\n",
        pkg__of__base="BASE = 1\n",
        pkg__of__sub__of____init__="",
        pkg__of__sub__of__leaf="from ..base import BASE\nfrom . import twig\nX = BASE + twig.Y\n",
        pkg__of__sub__of__twig="Y = 10\n",
        spaced__of__inner="def g(x):\n    import pkg.sub.leaf as leaf\n    return x + leaf.X\n",
    ).submit("""
from spaced import inner
ship({"mapfn": inner.g})
""")
    out = round_trip.run_on_worker("""
print(f["mapfn"](100), f["mapfn"].__module__)
import pkg, spaced
print(pkg.BASE, spaced.__file__ if hasattr(spaced, "__file__") else None)""")
    assert out.splitlines() == ["111 spaced.inner", "1 None"]


def test_plugins_loaded_by_a_computed_name(round_trip: RoundTrip) -> None:
    round_trip.write(
        plugins__of____init__="import importlib\n"
        "def get(name):\n    return importlib.import_module('plugins.' + name)\n",
        plugins__of__red="COLOUR = 'red'\n",
    ).submit("""
import plugins
plugins.get("red")
ship({"mapfn": lambda k, v: plugins.get(v).COLOUR})
""")
    assert round_trip.run_on_worker('print(f["mapfn"](1, "red"))') == "red"


def test_a_package_run_with_dash_m(round_trip: RoundTrip) -> None:
    round_trip.write(
        app__of____init__="",
        app__of__words="def split(t):\n    return t.split()\n",
        app__of__main=SHIP
        + """
from .words import split
def mapfn(k, v):
    from . import words
    return words.split(v) == split(v)
ship({"mapfn": mapfn})
""",
    ).submit("", "-m", "app.main")
    assert round_trip.run_on_worker('print(f["mapfn"](1, "a b"))') == "True"


def test_a_script_without_a_file(round_trip: RoundTrip) -> None:
    round_trip.write(helper="X = 5\n", late="Y = 6\n")
    program = (
        SHIP
        + """
import helper
def mapfn(k, v):
    import late
    return helper.X + late.Y
ship({"mapfn": mapfn})
"""
    )
    round_trip.submit("", "-c", program)
    assert round_trip.run_on_worker('print(f["mapfn"](1, 2))') == "11"


def test_classes_of_the_script_as_keys_and_values(round_trip: RoundTrip) -> None:
    """Plain pickle finds the class that the functions use, in both directions."""
    round_trip.submit("""
import dataclasses, enum, typing
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    class Kind(enum.Enum):
        ROUND = 1
class Colour(enum.Enum):
    RED = 1
class Row(typing.NamedTuple):
    a: int
class Unused:
    pass
class Holds:
    lock = __import__("threading").Lock()
def mapfn(k, v):
    assert isinstance(k, Point) and v[0] is Colour.RED and type(v[1]) is Row
    return Point(k.x + 1), Colour(1)
ship({"mapfn": mapfn}, {"start": Point(5)},
     data=(Point(1), [Colour.RED, Row(2), Unused(), Point.Kind.ROUND]))
""")
    out = round_trip.run_on_worker("""
import __main__
key, value = f["mapfn"](*data)
print(key, value, params["start"], type(params["start"]) is type(key))
again = pickle.loads(pickle.dumps((key, value)))
print(again == (key, value), type(again[0]) is __main__.Point, hash(key) == hash(again[0]))
print(data[1][3] is __main__.Point.Kind.ROUND, hasattr(__main__, "Holds"))
print(loaded.find_class("__main__", "Point.Kind").__qualname__, "ship" in vars(__main__))""")
    assert out.splitlines() == [
        "Point(x=2) Colour.RED Point(x=5) True",
        "True True True",
        "True False",
        "Point.Kind False",
    ]


def test_the_script_is_never_run_on_the_worker(round_trip: RoundTrip) -> None:
    round_trip.submit("""
import sys
if "redismr.shipping.load" in sys.modules:
    raise SystemExit("ran twice")
ship({"mapfn": lambda k, v: v})
""")
    assert round_trip.run_on_worker('print(f["mapfn"](1, 2))') == "2"


def test_two_jobs_with_different_modules_of_one_name(tmp_path: Path) -> None:
    out = []
    for number in (1, 2):
        project = RoundTrip(tmp_path / str(number)).write(util=f"N = {number}\n")
        project.submit("import util\nship({'mapfn': lambda k, v: util.N})")
        # No job uses the worker's own ``util``.
        (project.elsewhere / "util.py").write_text("N = 'the worker'\n")
        out.append(project.run_on_worker('print(f["mapfn"](1, 2))'))
    assert out == ["1", "2"]


def test_one_process_that_loads_two_jobs_in_turn(tmp_path: Path) -> None:
    first = RoundTrip(tmp_path / "1").write(util="N = 1\n")
    second = RoundTrip(tmp_path / "2").write(util="N = 2\n")
    for project in (first, second):
        project.submit(
            "import util\ndef mapfn(k, v):\n    import util as u\n    return util.N, u.N\n"
            "ship({'mapfn': mapfn})"
        )
    out = second.run_on_worker(f"""
print(f["mapfn"](1, 2))
with open({first.env["PACKED_CODE"]!r}, "rb") as file:
    code, packed_params, _ = pickle.load(file)
print(load_code(code).functions["mapfn"](1, 2))
from redismr.shipping.importer import JobImporter
print(sum(isinstance(finder, JobImporter) for finder in sys.meta_path))""")
    assert out.splitlines() == ["(2, 2)", "(1, 1)", "1"]


def test_a_module_that_only_the_submitter_has_installed(round_trip: RoundTrip) -> None:
    packages = round_trip.elsewhere.parent / "site-packages"
    packages.mkdir()
    (packages / "thirdparty.py").write_text("def f(x):\n    return x\n")
    worker_path = round_trip.env["PYTHONPATH"]
    round_trip.env["PYTHONPATH"] += os.pathsep + str(packages)
    round_trip.submit("""
import thirdparty
def late(k, v):
    import thirdparty_too
ship({"mapfn": lambda k, v: thirdparty.f(v), "reducefn": late})
""")
    round_trip.env["PYTHONPATH"] = worker_path
    error = round_trip.run_on_worker("", check=False)
    assert "redismr.errors.CodeError: the job needs the module 'thirdparty'" in error
    assert "Install it wherever a worker runs" in error


def test_modules_that_pip_installed_beside_the_script_are_not_sent(round_trip: RoundTrip) -> None:
    """``pip install --target``: modules that a distribution's RECORD lists are not sent."""
    round_trip.write(vendored="X = 1\n", mine="Y = 2\n")
    info = round_trip.project / "vendored-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: vendored\nVersion: 1.0\n")
    (info / "RECORD").write_text("vendored.py,,\nvendored-1.0.dist-info/METADATA,,\n")
    round_trip.submit("""
def mapfn(k, v):
    import mine
    try:
        import vendored
    except ImportError as error:
        return mine.Y, error.name
ship({"mapfn": mapfn})
""")
    assert round_trip.run_on_worker('print(f["mapfn"](1, 2))') == "(2, 'vendored')"


def test_a_shipped_module_that_fails_to_import(round_trip: RoundTrip) -> None:
    round_trip.write(
        helper="import os\nif 'BROKEN' in os.environ:\n    open('/no/such/file')\nX = 1\n"
    )
    round_trip.submit("import helper\nship({'mapfn': lambda k, v: helper.X})")
    round_trip.env["BROKEN"] = "1"
    error = round_trip.run_on_worker("", check=False)
    assert "CodeError: the job's code does not load here: FileNotFoundError" in error
    assert "open('/no/such/file')" in error  # the line of a file that is not here


def test_tracebacks_show_the_users_lines(round_trip: RoundTrip) -> None:
    round_trip.write(helper="def boom(x):\n    return 1 / x  # in helper\n").submit("""
import helper
def mapfn(k, v):
    return helper.boom(v)  # in the script
ship({"mapfn": mapfn})
""")
    out = round_trip.run_on_worker("""
from redismr.core.failure_capture import make_failure
try:
    f["mapfn"](1, 0)
except ZeroDivisionError as error:
    traceback.print_exc(file=sys.stdout)
    print([frame.text for frame in make_failure(error, stage="map", task="m0").frames[-2:]])""")
    assert "return helper.boom(v)  # in the script" in out
    assert out.splitlines()[-1] == (
        "['return helper.boom(v)  # in the script', 'return 1 / x  # in helper']"
    )


NAMED = """
import contextlib, dataclasses, functools
def boom(x):
    return 1 / x  # a function
def nested(x):
    def inner():
        return 1 / x  # nested
    return inner()
class Tool:
    def __init__(self, x=0):
        self.x = x
    def method(self, x):
        return 1 / x  # a method
    @staticmethod
    def static(x):
        return 1 / x  # static
    @property
    def prop(self):
        return 1 / self.x  # a property
@dataclasses.dataclass
class Data:
    x: int
    def __post_init__(self):
        1 / self.x  # after generated code
@functools.lru_cache
def cached(x):
    return 1 / x  # cached
@contextlib.contextmanager
def timed(name):
    yield
@timed("x")
def within(x):
    return 1 / x  # in a context
ways = {
    "boom": boom,
    "nested": nested,
    "lambda": lambda x: 1 / x,  # a lambda
    "listed": lambda x: [1 / y for y in [x]],  # a comprehension
    "generated": lambda x: list(1 / y for y in [x]),  # a generator
    "method": lambda x: Tool().method(x),
    "static": Tool.static,
    "prop": lambda x: Tool(x).prop,
    "data": Data,
    "cached": cached,
    "within": within,
}
"""

TRACED = """
from redismr.core.failure_capture import make_failure
for name, way in f.items():
    try:
        way(0)
    except ZeroDivisionError as error:
        frame = make_failure(error, stage="map", task="m0").frames[-1]
        print(name, os.path.basename(frame.file), frame.line, "|", frame.text)
"""

CELL = """
import linecache
text = {text!r}
linecache.cache["/tmp/ipykernel_1/2.py"] = len(text), None, text.splitlines(True), "2.py"
exec(compile(text, "/tmp/ipykernel_1/2.py", "exec"))
"""


@pytest.mark.parametrize(
    ("way", "file"), [("script", "wc.py"), ("cell", "2.py"), ("-c", "<string>"), ("-", "<stdin>")]
)
def test_code_keeps_its_file_and_lines(round_trip: RoundTrip, way: str, file: str) -> None:
    """Code without a file keeps its name and line numbers, and its lines where the text exists."""
    text = SHIP + NAMED + "ship(ways)"
    if way == "script":
        round_trip.submit(NAMED + "ship(ways)")
    elif way == "cell":
        round_trip.submit(CELL.format(text=text))
    else:
        command = [sys.executable, way, *([text] if way == "-c" else [])]
        round_trip.run(command, cwd=round_trip.elsewhere, check=True, stdin=text)
    seen = [line.partition(" | ") for line in round_trip.run_on_worker(TRACED).splitlines()]
    lines = text.splitlines()
    numbers = [n for n, line in enumerate(lines, 1) if "1 / " in line]
    assert sorted(int(head.split()[2]) for head, _, _ in seen) == numbers
    for head, _, shown in seen:
        assert head.split()[1] == file
        assert shown == lines[int(head.split()[2]) - 1].strip() or (way[0] == "-" and not shown)


def test_a_job_file(round_trip: RoundTrip) -> None:
    """The job file of the command line (``__jobfile__``) goes by value too, with its classes."""
    round_trip.write(
        helper="X = 3\n",
        jobfile="""
import collections
import helper
Pair = collections.namedtuple("Pair", "a b")
def mapfn(k, v):
    return Pair(k, helper.X)
""",
    ).submit("""
import importlib.util, os, sys
path = os.path.join(os.path.dirname(__file__), "jobfile.py")
spec = importlib.util.spec_from_file_location("__jobfile__", path)
module = sys.modules["__jobfile__"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
ship({"mapfn": module.mapfn}, data=module.Pair(1, 2))
import cloudpickle
assert not cloudpickle.list_registry_pickle_by_value()
""")
    out = round_trip.run_on_worker("""
pair = f["mapfn"](data, 0)
print(pair, type(pair) is type(data), pickle.loads(pickle.dumps(pair)) == pair)""")
    assert out == "Pair(a=Pair(a=1, b=2), b=3) True True"


def test_a_reader_keeps_its_own_main(round_trip: RoundTrip) -> None:
    round_trip.write(helper="class Shape:\n    pass\n").submit("""
import helper
class Point:
    pass
class Mine:
    origin = "job"
ship({"mapfn": lambda k, v: (Point(), helper.Shape())})
""")
    reader = """
class Mine:
    origin = "reader"
import pickle, os
from redismr.shipping import load_code
with open(os.environ["PACKED_CODE"], "rb") as file:
    loaded = load_code(pickle.load(file)[0], worker=False)
find = loaded.find_class
print(find("__main__", "Mine").origin, find("collections", "OrderedDict").__name__)
print(find("__main__", "Point").__name__, find("helper", "Shape").__name__, "Point" in globals())
for missing in (("__main__", "Nothing"), ("nowhere", "X")):
    try:
        find(*missing)
    except (AttributeError, ImportError) as error:
        print(type(error).__name__)
"""
    shutil.rmtree(round_trip.project)
    command: list[Any] = [sys.executable, "-c", reader]
    out = round_trip.run(command, cwd=round_trip.elsewhere, check=True)
    assert out.splitlines() == [
        "reader OrderedDict",
        "Point Shape False",
        "AttributeError",
        "ModuleNotFoundError",
    ]


@pytest.mark.parametrize("spawned", [True, False])
def test_a_script_that_spawns_processes(round_trip: RoundTrip, *, spawned: bool) -> None:
    """A spawned process loads the script again under another name; workers still do not run it."""
    round_trip.submit(
        f"SPAWNED = {spawned}"
        """
import multiprocessing, os
RAN = os.getpid()
class Used:
    x = 1
class Unused:
    y = 2
def mapfn():
    return Used.x, RAN == os.getpid(), multiprocessing.__name__
def go():
    assert mapfn.__module__ == ("__mp_main__" if SPAWNED else "__main__")
    ship({"mapfn": mapfn}, data=[Used(), Unused()])
if __name__ == "__main__" and not SPAWNED:
    go()
elif __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=go)
    process.start()
    process.join()
    assert process.exitcode == 0
"""
    )
    out = round_trip.run_on_worker(
        'print(f["mapfn"](), data[0].x, data[1].y, "__mp_main__" in sys.modules)'
    )
    assert out == "(1, False, 'multiprocessing') 1 2 True"
