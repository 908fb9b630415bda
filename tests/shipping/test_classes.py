"""Classes of a script, and functions that dispatch on types, on a worker that runs no script."""

from __future__ import annotations

import ast

from tests.shipping.conftest import RoundTrip

CLASSES = """
import abc, collections, enum, functools, os, typing
from dataclasses import dataclass

class Slots:
    __slots__ = ("a", "__b")
    def __init__(self):
        self.a, self.__b = 1, 2
    def get(self):
        return self.a, self.__b, hasattr(self, "__dict__")
class MoreSlots(Slots):
    __slots__ = ("c",)
class NoSlots(Slots):
    pass
class OneSlot:
    __slots__ = "x"
@dataclass(slots=True)
class Data:
    x: int = 3
@dataclass(frozen=True, slots=True, order=True)
class PickledSnapshot:
    x: int = 3
    y: tuple = ()

class Base:
    registry = {}
    def __init_subclass__(cls, *, tag, **rest):
        if tag in Base.registry:
            raise ValueError(f"{tag} is there already")
        super().__init_subclass__(**rest)
        cls.tag = Base.registry[tag] = tag
class Tagged(Base, tag="t"):
    pass
class Again(Tagged, tag="a"):
    pass
def made_on_the_worker():
    class Inner(Base, tag="inner"):
        pass
    return Inner.tag, Base.registry.pop("inner")

class Meta(type):
    seen = []
    def __new__(meta, name, bases, space, *, color):
        if name in meta.seen:
            raise ValueError(f"{name} is there already")
        meta.seen.append(name)
        return super().__new__(meta, name, bases, space | {"color": color})
    def __init__(cls, name, bases, space, *, color):
        super().__init__(name, bases, space)
    def __setattr__(cls, name, value):
        raise TypeError("read-only")
class Colored(metaclass=Meta, color="red"):
    pass
class More(Colored, color="blue"):
    z = 3
def read_only():
    try:
        More.z = 4
    except TypeError as error:
        return str(error)

class Abstract(metaclass=type("Both", (abc.ABCMeta,), {})):
    @abc.abstractmethod
    def f(self): ...
class Concrete(Abstract):
    def f(self):
        return 5
def abstract():
    try:
        return Abstract()
    except TypeError:
        return "abstract"

class Planet(enum.Enum):
    EARTH = (1, 2)
    MARS = (3, 4)
    def __init__(self, mass, radius):
        self.mass, self.radius = mass, radius
class Labelled(bytes, enum.Enum):
    A = (1, "x")
    def __new__(cls, value, label):
        member = bytes.__new__(cls, [value])
        member._value_, member.label = value, label
        return member
class Flags(enum.Flag):
    R = 1
    W = 2
    RW = 3
class Alias(enum.IntEnum):
    A = enum.auto()
    B = A

class Named(typing.NamedTuple):
    a: int
    b: str = "x"
class Summed(collections.namedtuple("Summed", "a b")):
    __slots__ = ()
    def total(self):
        return self.a + self.b
class Typed(typing.TypedDict, total=False):
    a: int
@typing.runtime_checkable
class Closing(typing.Protocol):
    def close(self): ...
T = typing.TypeVar("T")
class Generic(typing.Generic[T]):
    def __init__(self, x: T):
        self.x = x
class Special(Generic[int]):
    pass
class Descriptor:
    def __set_name__(self, owner, name):
        self.name = name
    def __get__(self, instance, owner=None):
        return self.name
class Described:
    field = Descriptor()
@functools.total_ordering
class Ordered:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return self.x == other.x
    def __lt__(self, other):
        return self.x < other.x

@functools.singledispatch
def kind(x):
    return "other"
@kind.register
def _(x: int):
    return "int"
@kind.register(list)
def _(x):
    return [kind(y) for y in x]
@kind.register(collections.abc.Mapping)
def _(x):
    return "mapping"
kind.register(Slots, lambda x: "late")
class Methods:
    @functools.singledispatchmethod
    def kind(self, x):
        return "other"
    @kind.register
    def _(self, x: int):
        return "int"
    @functools.singledispatchmethod
    @classmethod
    def of_class(cls, x):
        return "other"
    @of_class.register
    @classmethod
    def _(cls, x: int):
        return "int"
    @functools.cached_property
    def once(self):
        return 7
    def add(self, a, b):
        return a + b
    add_one = functools.partialmethod(add, 1)
    @functools.lru_cache
    def twice(self, x):
        return x * 2
@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
"""

CLASS_CHECKS = [
    "Slots().get(), MoreSlots().get(), NoSlots().get()",
    "hasattr(OneSlot(), '__dict__'), hasattr(Data(), '__dict__'), Data(1)",
    "PickledSnapshot(1) < PickledSnapshot(2), hash(PickledSnapshot(1)) == hash(PickledSnapshot(1)), PickledSnapshot(1)",  # noqa: E501
    "Tagged.tag, Again.tag, sorted(Base.registry), made_on_the_worker()",
    "Colored.color, More.color, More.z, Meta.seen, read_only()",
    "Concrete().f(), abstract()",
    "Planet.MARS.radius, Planet((1, 2))",
    "Labelled.A.label, Labelled(1).label, bytes(Labelled.A)",
    "Flags.R | Flags.W, Flags['RW'], Flags(3), list(Flags), Alias['B'], list(Alias)",
    "Named(1), Summed(1, 2).total(), Typed(a=1), Special(3).x, Generic[str]('s').x",
    "isinstance(open(os.devnull), Closing), isinstance(3, Closing)",
    "Described.field, Ordered(1) >= Ordered(0)",
    "kind([1, 'a', {}]), kind(Slots()), kind.__name__, sorted(map(str, kind.registry))",
    "Methods().kind(1), Methods().kind('x'), Methods.of_class(1), Methods.of_class('x')",
    "Methods().once, Methods().add_one(2), Methods().twice(4), fib(30)",
]


def test_classes_behave_on_a_worker_as_in_the_script(round_trip: RoundTrip) -> None:
    """Classes keep their slots; hooks that would register or refuse them again do not run."""
    looks = ", ".join(f"lambda: ({look})" for look in CLASS_CHECKS)
    round_trip.submit(
        f"{CLASSES}\nlooks = [{looks}]\n"
        "ship({str(n): f for n, f in enumerate(looks)}, data=[repr(f()) for f in looks])"
    )
    out = round_trip.run_on_worker("print([data, [repr(look()) for look in f.values()]])")
    wanted, seen = ast.literal_eval(out)
    assert [row for row in zip(CLASS_CHECKS, wanted, seen, strict=True) if row[1] != row[2]] == []
    assert len(seen) == len(CLASS_CHECKS)


def test_unused_classes_load_when_a_record_asks_for_them(round_trip: RoundTrip) -> None:
    """Two classes may refer to each other; a class that cannot be made again is named only then."""
    round_trip.submit("""
import collections, threading
COUNT = 0
def step():
    return COUNT + 1
class Point:
    def __init__(self, x):
        self.x = x
    def other(self):
        return Other(self.x + step())
class Other(Point):
    def back(self):
        return Point(self.x)
class Locked:
    lock = threading.Lock()
class Refusing:
    def __init_subclass__(cls, **keywords):
        raise ValueError("no")
UPS = 0
class Counting:
    @staticmethod
    def up():
        global UPS
        UPS += 1
        return UPS
class Reading:
    @staticmethod
    def read():
        return UPS
class Strange(collections.UserDict):
    pass
def initfn():
    global COUNT
    COUNT = 10
def mapfn(k, v):
    return step()
ship({"mapfn": mapfn, "initfn": initfn}, data=[Strange(a=1), Point(1), Other(2)])
""")
    out = round_trip.run_on_worker("""
import __main__
f["initfn"]()
strange, point, other = data
print(point.other().x, other.back().x, type(point.other()) is type(other), f["mapfn"](1, 2))
print(__main__.Counting.up(), __main__.Counting.up(), __main__.Reading.read())
print(strange["a"], hasattr(__main__, "Locked"), hasattr(__main__, "Nothing"))
""")
    assert out.splitlines() == ["12 2 True 11", "1 2 2", "1 False False"]


def test_a_class_that_cannot_be_made_again_fails_only_its_users(round_trip: RoundTrip) -> None:
    round_trip.submit("""
class Broken:
    def __reduce__(self):
        return breaks, ()
def breaks():
    raise ValueError("not here")
class Holder:
    value = Broken()
def mapfn(k, v):
    return k
ship({"mapfn": mapfn}, data=len)
""")
    out = round_trip.run_on_worker("""
print(f["mapfn"](1, 2))
import __main__
try:
    __main__.Holder
except Exception as error:
    print(type(error).__name__, error)""")
    assert out.splitlines() == [
        "1",
        (
            "CodeError the class Holder of the submitter's script cannot be made again here: "
            "ValueError: not here"
        ),
    ]


def test_a_used_class_that_cannot_be_made_again_is_named(round_trip: RoundTrip) -> None:
    """Hooks of installed packages run again, and may need class keywords that are not kept."""
    packages = round_trip.elsewhere / "site-packages"
    packages.mkdir()
    (packages / "installed.py").write_text(
        "class Base:\n    def __init_subclass__(cls, *, tag):\n        cls.tag = tag\n"
    )
    round_trip.env["PYTHONPATH"] += f":{packages}"
    round_trip.submit("""
import installed
class Used(installed.Base, tag="x"):
    pass
ship({"mapfn": lambda k, v: Used.tag})
""")
    error = round_trip.run_on_worker("", check=False)
    assert "CodeError: the job's code does not load here: TypeError: the class Used cannot" in error
    assert "missing 1 required keyword-only argument: 'tag'" in error
