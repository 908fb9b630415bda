"""Changes of a program in its own modules since their load, on a worker that loads them anew."""

from __future__ import annotations

import ast
import re

import pytest

from tests.shipping.conftest import RoundTrip

CONF = """
import abc, collections, enum, functools, os, re, types
THRESHOLD = 1
NAMES = ["a"]
CACHE = {}
BUFFER = bytearray(3)
VIEW = memoryview(BUFFER)
REGISTRY = {}
BY_KIND = collections.defaultdict(list)
SEEN = collections.Counter()
PATTERN = re.compile("a+")
RATE = float("1.5")
PID = os.getpid()
OPTIONS = types.SimpleNamespace(deep=types.SimpleNamespace(x=1))
class Mode(enum.Enum):
    SLOW = 1
    FAST = 2
MODE = Mode.SLOW
class Settings:
    LIMIT = 10
    tags = []
    class Inner:
        depth = 1
    def __init__(self, rate=1):
        self.rate = rate
    def scaled(self, x):
        return x * self.rate
settings = Settings()
alias = settings
def register(f):
    REGISTRY[f.__name__] = f
    return f
@register
def add_one(x):
    return x + 1
def subtract(x, by=1):
    return x - by
def look():
    return subtract(5), settings.scaled(2), THRESHOLD
def init(rate):
    global RATE
    RATE = rate
lookup = REGISTRY.get
class Shape(abc.ABC):
    pass
@functools.singledispatch
def kind(x):
    return "other"
@kind.register
def _(x: str):
    return "text"
class Kinds:
    @functools.singledispatchmethod
    def of(self, x):
        return "other"
"""

LATE = """
from conf import THRESHOLD
TWICE = THRESHOLD * 2
import conf
def now():
    return conf.THRESHOLD
"""

CHANGES = {
    "conf.THRESHOLD = 2": "conf.THRESHOLD, conf.look()",
    "conf.ADDED = [1, {2: 'x'}]": "conf.ADDED",
    "del conf.NAMES": "hasattr(conf, 'NAMES')",
    "conf.NAMES.append('b')": "conf.NAMES",
    "conf.BUFFER[1] = 7": "list(conf.BUFFER), list(conf.VIEW)",
    "conf.CACHE[1, 'x'] = {'y'}": "conf.CACHE",
    "conf.BY_KIND['k'].append(1)": "conf.BY_KIND, conf.BY_KIND['new']",
    "conf.SEEN.update('aab')": "conf.SEEN",
    "conf.PATTERN = re.compile('b+')": "conf.PATTERN.pattern",
    "conf.init(3)": "conf.RATE",
    "conf.OPTIONS.deep.x = 2": "conf.OPTIONS.deep.x",
    "conf.MODE = conf.Mode.FAST": "conf.MODE is conf.Mode.FAST, conf.Mode.SLOW.value",
    "conf.settings.rate = 7": "conf.look(), conf.alias is conf.settings",
    "conf.settings = conf.Settings(4)": "conf.look(), conf.alias.rate",
    "conf.Settings.LIMIT = 11": "conf.Settings.LIMIT, conf.settings.LIMIT",
    "conf.Settings.tags.append(1)": "conf.Settings.tags",
    "conf.Settings.Inner.depth = 2": "conf.Settings.Inner.depth",
    "conf.Settings.scaled = lambda self, x: -x": "conf.look()",
    "conf.subtract = lambda x: x + 100": "conf.look()",
    "old = conf.subtract; conf.subtract = lambda x: old(x) * 10": "conf.look()",
    "conf.subtract = conf.add_one": "conf.look(), conf.subtract is conf.add_one",
    "conf.subtract.__defaults__ = (4,)": "conf.look()",
    "conf.subtract.mode = 'x'": "conf.subtract.mode",
    "conf.register(scale_it)": "conf.REGISTRY['scale_it'](1), conf.lookup('scale_it')(2), len(conf.REGISTRY)",  # noqa: E501
    "conf.REGISTRY['C'] = LocalClass": "conf.lookup('C').tag",
    "conf.Shape.register(LocalClass)": "isinstance(LocalClass(), conf.Shape), isinstance(1, conf.Shape)",  # noqa: E501
    "conf.kind.register(int, scale_it)": "conf.kind(2), conf.kind('x'), conf.kind(2.0)",
    "conf.Kinds.of.register(int, lambda self, x: x)": "conf.Kinds().of(1), conf.Kinds().of('x')",
    "conf.THRESHOLD = LocalClass()": "conf.THRESHOLD.tag",
    "vars(conf)['THRESHOLD'] = 5": "conf.THRESHOLD",
    "setattr(conf, 'THRESHOLD', decimal.Decimal('1.5'))": "conf.THRESHOLD",
    "edit('conf', 'THRESHOLD = 1', 'THRESHOLD = 9')": "conf.look()",
    "edit('conf', 'THRESHOLD = 1', 'THRESHOLD = 9'); importlib.reload(conf)": "conf.look()",
    "importlib.reload(conf); conf.THRESHOLD = 3": "conf.look()",
    "import pkg.sub; pkg.LEVEL = 2; pkg.sub.DEPTH_VARIABLE = 3": "pkg.LEVEL, pkg.sub.DEPTH_VARIABLE, pkg.sub.LEVEL",  # noqa: E501
    "import late; conf.THRESHOLD = 4": "late.THRESHOLD, late.TWICE, late.now()",
    "conf.THRESHOLD = 4; import late": "late.THRESHOLD, late.TWICE, late.now()",
}


SUBMIT = """
import redismr
import decimal, importlib, pathlib, re
def edit(name, old, new):
    path = pathlib.Path(__file__).with_name(name + ".py")
    path.write_text(path.read_text().replace(old, new))
SCALE = 3
def scale_it(x):
    return x * SCALE
class LocalClass:
    tag = "mine"
"""


def test_workers_see_changes_in_modules(round_trip: RoundTrip) -> None:
    """A worker gives the same result as a loop in the program; each change has its own modules."""
    script = SUBMIT
    for i, (change, look) in enumerate(CHANGES.items()):
        texts = (CONF, LATE, f"import conf\n{change}\ndef look{i}():\n    return {look}\n")
        conf, late, main = (re.sub(r"\b(conf|late|pkg)\b", rf"\g<1>{i}", text) for text in texts)
        files = {f"conf{i}": conf, f"late{i}": late, f"pkg{i}__of____init__": "LEVEL = 1\n"}
        files[f"pkg{i}__of__sub"] = f"from pkg{i} import LEVEL\nDEPTH = 1\n"
        round_trip.write(**files)
        script += main
    names = ", ".join(f"look{i}" for i in range(len(CHANGES)))
    round_trip.submit(
        f"{script}\nlooks = [{names}]\n"
        "ship({f.__name__: f for f in looks}, data=[repr(f()) for f in looks])"
    )
    out = round_trip.run_on_worker("print([data, [repr(look()) for look in f.values()]])")
    wanted, seen = ast.literal_eval(out)
    differ = [row for row in zip(CHANGES, wanted, seen, strict=True) if row[1] != row[2]]
    assert differ == [] and len(seen) == len(CHANGES)


def test_constants_set_before_redismr_was_imported(round_trip: RoundTrip) -> None:
    """redismr did not see the load: the constants in the source tell what was changed."""
    round_trip.write(conf="RATE: int = 1\nNAMES = ['a']\nTABLE = {}\nHERE = open\n").submit("""
import conf
conf.RATE = 3
conf.NAMES.append("b")
conf.TABLE = None
import redismr
ship({"mapfn": lambda: (conf.RATE, conf.NAMES, conf.TABLE)})
""")
    assert round_trip.run_on_worker('print(f["mapfn"]())') == "(3, ['a', 'b'], None)"


def test_a_module_that_imports_redismr_is_compared_with_its_load_end(round_trip: RoundTrip) -> None:
    """Names that it sets after that import are part of its load, no change: a lock is not sent."""
    round_trip.write(
        conf="import redismr\nimport os, threading\nLOCK = threading.Lock()\nPID = os.getpid()\n"
        "RATE = 1\ndef look():\n    with LOCK:\n        return PID == os.getpid(), RATE\n"
    ).submit("""
import conf
conf.RATE = 2
ship({"mapfn": conf.look})
""")
    assert round_trip.run_on_worker('print(f["mapfn"]())') == "(True, 2)"


LOAD_WAYS = {
    "that imports redismr first": "import late",
    "imported by one that does": "import first",
    "by hand": """
import redismr
spec = importlib.util.spec_from_file_location("late", "late.py")
late = sys.modules["late"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(late)""",
    "when needed": """
spec = importlib.util.find_spec("late")
spec.loader = importlib.util.LazyLoader(spec.loader)
late = sys.modules["late"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(late)
import redismr
assert type(late) is not types.ModuleType""",
    "from a zip file": """
import redismr
with zipfile.ZipFile("late.zip", "w") as file:
    file.write("late.py")
os.remove("late.py")
sys.path.insert(0, os.path.abspath("late.zip"))
import late""",
    "by a loader of somebody's": """
class Loader(importlib.abc.InspectLoader):
    def exec_module(self, module):
        exec(self.get_code("late"), vars(module))
    def get_source(self, name):
        return open("late.py").read()
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "late":
            return importlib.util.spec_from_file_location(name, "late.py", loader=Loader())
sys.meta_path.insert(0, Finder())
import redismr, late""",
}


@pytest.mark.parametrize("load", LOAD_WAYS.values(), ids=LOAD_WAYS)
def test_changes_are_seen_however_the_module_was_loaded(round_trip: RoundTrip, load: str) -> None:
    """Values that the load made are not sent; values changed since then are."""
    round_trip.write(
        first="from late import Cfg\n",
        late="import redismr, threading, sys\nclass Cfg:\n    rate = 1\n    def own(self):\n"
        "        return 1\nLOCK = threading.Lock()\nOUT = sys.stderr\nHERE = [LOCK]\n",
    ).submit(f"""
import importlib.abc, importlib.util, os, sys, types, zipfile
{load}
late = sys.modules["late"]
late.Cfg.rate, late.ADDED = 5, 6
def mapfn():
    with late.LOCK:
        return late.Cfg.rate, late.ADDED, late.Cfg().own(), late.HERE[0] is late.LOCK
ship({{"mapfn": mapfn}})
""")
    assert round_trip.run_on_worker('print(f["mapfn"]())') == "(5, 6, 1, True)"


def test_unchanged_values_are_each_workers_own(round_trip: RoundTrip) -> None:
    """A load may set names that depend on the host, process or environment."""
    round_trip.write(
        conf="import os, random\nPID = os.getpid()\nWHERE = os.environ.get('WHERE', 'here')\n"
        "OPTIONS = {'where': WHERE}\nRATE = 1\n"
    ).submit("""
import redismr, conf
conf.RATE = 2
ship({"mapfn": lambda: (conf.PID, conf.OPTIONS["where"], conf.RATE)})
""")
    round_trip.env["WHERE"] = "there"
    assert round_trip.run_on_worker('print(f["mapfn"]()[0] == os.getpid(), f["mapfn"]()[1:])') == (
        "True ('there', 2)"
    )


def test_a_module_that_a_function_imports_later(round_trip: RoundTrip) -> None:
    round_trip.write(conf="RATE = 1\nKINDS = {}\n").submit("""
import redismr, conf
conf.RATE = 2
def kind(x):
    return x * FACTOR
FACTOR = 5
conf.KINDS["kind"] = kind
def mapfn():
    import conf
    return conf.RATE, conf.KINDS["kind"](1)
del conf
ship({"mapfn": mapfn})
""")
    out = round_trip.run_on_worker('import sys; print("conf" in sys.modules, f["mapfn"]())')
    assert out == "False (2, 5)"


REFUSED = """
import redismr, conf, threading
{}
def mapfn():
    return conf.use()
ship({{"mapfn": mapfn}})
"""


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("conf.lock = threading.Lock()", "conf.lock"),
        ("conf.Tool.lock = threading.Lock()", "conf.Tool.lock"),
        ("conf.TABLE['x'] = [threading.Lock()]", "conf.TABLE"),
        ("conf.use = lambda lock=threading.Lock(): lock", "conf.use"),
    ],
)
def test_an_unsendable_change_is_refused_by_name(
    round_trip: RoundTrip, change: str, name: str
) -> None:
    round_trip.write(
        conf="lock = None\nTABLE = {'a': 1}\nclass Tool:\n    pass\ndef use():\n    return lock\n"
    )
    error = round_trip.submit(REFUSED.format(change), check=False)
    assert f"CodeError: {name} was set after conf was loaded, and cannot be sent" in error
    assert "a _thread.lock, which does not pickle" in error and f"Set {name} in initfn" in error


def test_values_that_a_module_makes_on_demand_are_made_anew(round_trip: RoundTrip) -> None:
    """A connection under ``global``, a pool: each worker makes its own."""
    round_trip.write(
        conf="""
import threading
conn, pool = None, {}
class Tool:
    shared = None
    @classmethod
    def get(cls):
        cls.shared = cls.shared or threading.Lock()
        return cls.shared
def get():
    global conn
    conn = conn or threading.Lock()
    pool.setdefault(1, conn)
    return conn
""",
        unseen="conn = None\n",
    ).submit("""
import redismr, conf, threading, unseen
conf.get(), conf.Tool.get()
unseen.conn = threading.Lock()  # in a module that no function of the job can see
ship({"mapfn": lambda: (conf.conn, len(conf.pool), conf.Tool.shared, conf.get() is conf.conn)})
""")
    assert round_trip.run_on_worker('print(f["mapfn"]())') == "(None, 0, None, True)"


def test_large_changes_are_warned_of(round_trip: RoundTrip) -> None:
    round_trip.write(conf="ROWS = []\n").submit("""
import redismr, conf, warnings
conf.ROWS.append("x" * 11_000_000)
with warnings.catch_warnings(record=True) as warned:
    ship({"mapfn": lambda: len(conf.ROWS[0])})
print(warned[0].message)
assert "changed modules of this job take 11 MB" in str(warned[0].message)
assert "largest part is conf.ROWS, 11 MB" in str(warned[0].message)
""")
    assert round_trip.run_on_worker('print(f["mapfn"]())') == "11000000"


def test_other_changes_give_other_packed_code(round_trip: RoundTrip) -> None:
    round_trip.write(conf="RATE = 1\n").submit("""
import redismr, conf
from redismr.shipping import pack
def mapfn():
    return conf.RATE
digests = []
for conf.RATE in (1, 2, 2, 1):
    digests.append(pack({"mapfn": mapfn}).digest)
assert digests[0] == digests[3] != digests[1] == digests[2]
ship({"mapfn": mapfn})
""")


def test_attributes_that_pickle_adds_to_a_class_are_no_change(round_trip: RoundTrip) -> None:
    """Otherwise the second job of a program would be other packed code and need new executors."""
    round_trip.write(conf="class Row:\n    pass\n").submit("""
import redismr, conf, pickle
from redismr.shipping import pack
class Own(conf.Row):
    pass
def mapfn():
    return conf.Row, Own
digest = pack({"mapfn": mapfn}).digest
pickle.dumps([conf.Row(), Own()])
assert "__slotnames__" in vars(conf.Row) and "__slotnames__" in vars(Own)
assert pack({"mapfn": mapfn}).digest == digest
ship({"mapfn": mapfn})
""")


def test_proxies_that_raise_on_access_are_left_alone(round_trip: RoundTrip) -> None:
    """A proxy of a web framework raises on every access until it is bound."""
    round_trip.write(
        conf="""
class Proxy:
    __slots__ = ()
    def __getattribute__(self, name):
        raise RuntimeError(name)
    def __eq__(self, other):
        raise RuntimeError("eq")
request, RATE = Proxy(), 1
CACHE = {"request": request}
class Holder:
    inner = request
"""
    ).submit("""
import redismr, conf
conf.RATE = 2
ship({"mapfn": lambda: (conf.RATE, type(conf.request).__name__)})
""")
    assert round_trip.run_on_worker('print(f["mapfn"]())') == "(2, 'Proxy')"


def test_old_values_of_a_module_are_not_kept_alive(round_trip: RoundTrip) -> None:
    round_trip.write(
        conf="class Big(dict):\n    pass\nbig = Big(x=1)\nrows = [Big()]\nTEXT = 'x' * 5000\n"
    ).submit("""
import redismr, conf, gc, weakref
gone = [weakref.ref(conf.big), weakref.ref(conf.rows[0])]
conf.big = conf.rows = None
gc.collect()
assert [ref() for ref in gone] == [None, None]
ship({"mapfn": lambda: (conf.big, conf.rows, len(conf.TEXT))})
""")
    assert round_trip.run_on_worker('print(f["mapfn"]())') == "(None, None, 5000)"


def test_an_import_that_fails_shows_the_users_frames_only(round_trip: RoundTrip) -> None:
    """The import watcher adds no frames to a traceback."""
    round_trip.write(broken="x = 1 / 0\n")
    error = round_trip.submit("import redismr\nimport broken\n", check=False)
    assert "importlib" not in error and "fresh" not in error
    assert "x = 1 / 0" in error
