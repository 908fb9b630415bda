"""mapfn, collectfn, reducefn and finishfn are called as in mincemeat.py and its forks."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys

import cloudpickle
import pytest

import redismr
from redismr.compat import mincemeat, mincemeat_globals
from redismr.compat.mincemeat_globals import MincemeatGlobals

LINES = ["Humpty Dumpty sat", "Humpty fell", "all sat"]
WORDS = {"Humpty": 2, "Dumpty": 1, "sat": 2, "fell": 1, "all": 1}


def words(k, v):
    for w in v.split():
        yield w, 1


def total(k, vs):
    return sum(vs)


def numbered(lines=LINES):
    return dict(enumerate(lines))


class LazyMapping:
    """A datasource with ``__iter__`` and ``__getitem__`` only."""

    def __init__(self, items):
        self.items, self.fetched = items, []

    def __iter__(self):
        return iter(self.items)

    def __getitem__(self, key):
        self.fetched.append(key)
        return f"value {key}"


def test_a_new_server_has_nothing():
    server = mincemeat.Server()
    for name in ("mapfn", "reducefn", "collectfn", "finishfn", "datasource", "password", "cycle"):
        assert getattr(server, name) is None
    assert (mincemeat.DEFAULT_PORT, mincemeat.VERSION) == (11235, "0.1.4")
    assert mincemeat.logging.INFO == 20


# ------------------------------------------------------------------- datasources


def test_lazy_datasource_without_len(server_runner):
    lazy = LazyMapping([1, ("a", 2.5), "x", b"y"])
    found = server_runner.run_server(
        datasource=lazy, mapfn=lambda k, v: [(k, v)], reducefn=lambda k, vs: vs
    )
    assert found == {key: [f"value {key}"] for key in lazy.items}
    assert lazy.fetched == lazy.items


def test_the_latest_datasource_replaces(server_runner):
    server = mincemeat.Server()
    for datasource in (numbered(), {1: "a"}):
        server.datasource = datasource
        assert server.datasource is datasource
    assert server_runner.run_server(server, mapfn=words, reducefn=total) == {"a": 1}
    assert server.datasource == {1: "a"}
    server.datasource = {1: "b"}
    assert server.datasource == {1: "b"}
    assert server_runner.run_server(server) == {"b": 1}


def test_a_list_is_numbered(server_runner):
    """mincemeat.py raised TypeError, so scripts wrapped a list as dict(enumerate(lines))."""
    assert server_runner.run_server(datasource=LINES, mapfn=words, reducefn=total) == WORDS
    found = server_runner.run_server(datasource=LINES, mapfn=lambda k, v: [(k, v)])
    assert found == {n: [line] for n, line in enumerate(LINES)}


def test_equal_keys_are_all_mapped(server_runner):
    """Unlike mincemeat.py, where equal keys that were outstanding together were one."""
    source = LazyMapping([1, 1, 2, 1])
    found = server_runner.run_server(datasource=source, mapfn=lambda k, v: [(k, 1)], reducefn=total)
    assert found == {1: 3, 2: 1}


def test_an_empty_datasource_gives_an_empty_result(server_runner):
    assert server_runner.run_server(datasource={}, mapfn=words, reducefn=total) == {}


def test_a_missing_datasource_is_an_error():
    server = mincemeat.Server()
    server.datasource = None
    with pytest.raises(redismr.ConfigError, match="no datasource"):
        server.run_server(password="x" * 20, port=1)


def test_a_datasource_that_raises_ends_the_job_with_that_error(server_runner):
    class Bad(LazyMapping):
        def __getitem__(self, key):
            if key == 3:
                raise PermissionError("no way to read 3")
            return "v"

    with pytest.raises(redismr.SourceError, match=r"PermissionError.*key 3.*no way") as caught:
        server_runner.run_server(datasource=Bad([1, 2, 3, 4]), mapfn=words, reducefn=total)
    assert isinstance(caught.value.__cause__, PermissionError)


# ------------------------------------------------------------------- keys and results


class ProcessHashedKey:
    """A key whose hash differs between processes."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return isinstance(other, ProcessHashedKey) and self.n == other.n

    def __hash__(self):
        return hash(("odd", self.n))


def test_any_hashable_key(server_runner):
    keys = [
        None,
        1.5,
        ("t", (1, b"x")),
        frozenset([1]),
        "\u00e9\u4e2d",
        ProcessHashedKey(1),
        ProcessHashedKey(1),
        ProcessHashedKey(2),
    ]
    found = server_runner.run_server(
        datasource=dict(enumerate(keys)), mapfn=lambda k, v: [(v, k)], reducefn=total
    )
    assert found == {
        None: 0,
        1.5: 1,
        keys[2]: 2,
        keys[3]: 3,
        "\u00e9\u4e2d": 4,
        ProcessHashedKey(1): 11,
        ProcessHashedKey(2): 7,
    }


def test_the_result_is_a_plain_dict_of_the_callers_own(server_runner):
    found = server_runner.run_server(datasource=numbered(), mapfn=words, reducefn=total)
    assert type(found) is dict
    assert found == WORDS
    del found["all"]
    found["new"] = 1
    assert "all" not in found


def test_a_result_may_be_none_or_anything_picklable(server_runner):
    found = server_runner.run_server(
        datasource={1: "a b"}, mapfn=words, reducefn=lambda k, vs: None if k == "a" else {k: vs}
    )
    assert found == {"a": None, "b": {"b": [1]}}


def test_mapfn_may_return_a_list_or_yield_nothing(server_runner):
    found = server_runner.run_server(
        datasource=numbered(), mapfn=lambda k, v: [(v, k)] if k else [], reducefn=total
    )
    assert found == {"Humpty fell": 1, "all sat": 2}


def test_values_keep_the_order_of_the_yields(server_runner):
    found = server_runner.run_server(
        datasource={n: n for n in range(40)},
        mapfn=lambda k, v: [("x", (k, 0)), ("x", (k, 1))],
        reducefn=lambda k, vs: vs,
    )
    assert found == {"x": [(n, i) for n in range(40) for i in (0, 1)]}


def test_large_values_and_results(server_runner):
    found = server_runner.run_server(
        datasource={1: list(range(300_000))},
        mapfn=lambda k, v: [("many", n) for n in v] + [("list", v)],
        reducefn=lambda k, vs: 10**213_236 if k == "list" else len(vs),
    )
    assert found["many"] == 300_000
    assert found["list"].bit_length() == (10**213_236).bit_length()


# ------------------------------------------------------------------- collectfn


def test_collectfn_of_two_arguments_gives_one_value_whatever_its_type(server_runner):
    found = server_runner.run_server(
        datasource=numbered(), mapfn=words, collectfn=lambda k, vs: [sum(vs)],
        reducefn=lambda k, vs: vs,
    )  # fmt: skip
    assert found["Humpty"] == [[1], [1]]


def test_collectfn_is_applied_once_for_each_item(server_runner):
    found = server_runner.run_server(
        datasource=dict.fromkeys(range(50), "a a b"), mapfn=words,
        collectfn=lambda k, vs: len(vs), reducefn=lambda k, vs: vs,
    )  # fmt: skip
    assert found == {"a": [2] * 50, "b": [1] * 50}


def test_collectfn_gets_values_as_yielded(server_runner):
    def refilling(k, v):
        row = [0]
        for row[0] in v:
            yield "k", row

    def collected(items):
        out = [0]
        for key, rows in items:
            for out[0] in (row[0] for row in rows):
                yield f"{key}{out[0]}", out

    source = {0: [1, 2], 1: [3]}
    found = server_runner.run_server(
        datasource=source, mapfn=refilling, collectfn=lambda k, rows: sorted(rows),
        reducefn=lambda k, vs: vs,
    )  # fmt: skip
    assert found == {"k": [[[1], [2]], [[3]]]}
    found = server_runner.run_server(
        datasource=source, mapfn=refilling, collectfn=collected, reducefn=lambda k, vs: vs
    )
    assert found == {"k1": [1], "k2": [2], "k3": [3]}


def extra(items):
    for k, vs in items:
        if k != "fell":
            yield k.upper(), vs if len(vs) > 1 else (k, len(vs))
    yield "EXTRA", 98
    yield "EXTRA", 99
    yield "EMPTY", []


def test_collectfn_of_an_iterator_follows_the_list_rules(server_runner):
    """A list holds values, a tuple is one value. collectfn may add and drop keys. Of a key that it
    yields twice the last counts. Each map contributes."""
    found = server_runner.run_server(
        datasource={1: "a a b", 2: "b fell"}, mapfn=words, collectfn=extra,
        reducefn=lambda k, vs: vs,
    )  # fmt: skip
    assert found == {"A": [1, 1], "B": [("b", 1), ("b", 1)], "EXTRA": [99, 99], "EMPTY": []}


# ------------------------------------------------------------------- reducefn


def test_reducefn_of_an_iterator(server_runner):
    def generated(items):
        for k, vs in items:
            yield k, sum(vs)

    assert server_runner.run_server(datasource=numbered(), mapfn=words, reducefn=generated) == WORDS
    listed = lambda items: [(k, sum(vs)) for k, vs in items]
    assert server_runner.run_server(datasource=numbered(), mapfn=words, reducefn=listed) == WORDS


@pytest.mark.parametrize("pairs", [[], [("other", 1)], [("a", 1), ("a", 2)]])
def test_other_than_one_pair_with_the_same_key_is_an_error(server_runner, pairs):
    """The fork hung on a renamed key."""
    with pytest.raises(redismr.ReduceError, match=r"exactly one pair, with the key.*'a'"):
        server_runner.run_server(datasource={1: "a"}, mapfn=words, reducefn=lambda items: pairs)


def test_without_reducefn_each_key_keeps_all_values(server_runner):
    """A missing reducefn lets no worker hang."""
    assert server_runner.run_server(datasource={1: "a b a"}, mapfn=words) == {"a": [1, 1], "b": [1]}
    found = server_runner.run_server(datasource={1: "a b a"}, mapfn=words, collectfn=extra)
    assert found == {"A": [1, 1], "B": [("b", 1)], "EXTRA": [99], "EMPTY": []}


def test_without_mapfn_the_datasource_is_reduced(server_runner):
    source = {"a": [1, 2], "b": "not a list", "c": []}
    found = server_runner.run_server(datasource=source, reducefn=lambda k, vs: (k, vs))
    assert found == {"a": ("a", [1, 2]), "b": ("b", "not a list"), "c": ("c", [])}
    found = server_runner.run_server(
        datasource={"a": [1, 2]}, reducefn=lambda items: [(k, sum(v)) for k, v in items]
    )
    assert found == {"a": 3}


def test_a_generator_as_simple_reducefn_emits_pairs(server_runner):
    """The pairs are emitted, as in redismr; mincemeat.py tried to send the generator itself."""

    def several(k, vs):
        yield k, sum(vs)
        yield (k, "twice"), 2 * sum(vs)

    found = server_runner.run_server(datasource={1: "a a"}, mapfn=words, reducefn=several)
    assert found == {"a": 2, ("a", "twice"): 4}


@pytest.mark.parametrize(
    ("reducefn", "value"),
    [
        (lambda k, vs: zip([k] * 2, [5, 6], strict=True), [("a", 5), ("a", 6)]),
        (lambda k, vs: enumerate(vs), [(0, 1), (1, 1)]),
        (lambda k, vs: reversed([(1, 2)]), [(1, 2)]),
        (lambda k, vs: filter(None, []), []),
        (lambda k, vs: (v for v in vs), [1, 1]),
        (lambda items: [(k, map(str, vs)) for k, vs in items], ["1", "1"]),
    ],
)
def test_an_iterator_that_reducefn_returns_is_a_value(server_runner, reducefn, value):
    """zip and filter returned lists in Python 2, so old scripts return iterators today."""
    assert server_runner.run_server(datasource={1: "a a"}, mapfn=words, reducefn=reducefn) == {
        "a": value
    }


def test_an_iterator_that_collectfn_returns_is_a_value(server_runner):
    run = functools.partial(server_runner.run_server, datasource={1: "a a"}, mapfn=words)
    found = run(collectfn=lambda k, vs: zip(vs, vs, strict=True), reducefn=lambda k, vs: vs)
    assert found == {"a": [[(1, 1), (1, 1)]]}
    found = run(
        collectfn=lambda items: [(k, filter(None, vs)) for k, vs in items],
        reducefn=lambda k, vs: vs,
    )
    assert found == {"a": [1, 1]}


@pytest.mark.parametrize("collectfn", [None, total])
def test_mapfn_gets_key_and_value_if_both_can_be_taken(server_runner, collectfn):
    """Defaults count, as in mincemeat.py; a function of one argument gets the value."""
    run = functools.partial(server_runner.run_server, datasource={1: 7}, collectfn=collectfn)
    assert run(mapfn=lambda k, v=None: [(k, v)], reducefn=total) == {1: 7}
    assert run(mapfn=lambda k=0, v=None: [(k, v)], reducefn=total) == {1: 7}
    assert run(mapfn=lambda *given: [given], reducefn=total) == {1: 7}
    assert run(mapfn=lambda v: [(v, 1)], reducefn=total) == {7: 1}


# ------------------------------------------------------------------- finishfn, resultfn


def test_finishfn_runs_here_over_all_results(server_runner):
    seen = []

    def finish(items):
        for k, v in items:
            seen.append(k)
            if v > 1:
                yield k.lower(), v * 10

    found = server_runner.run_server(
        datasource=numbered(), mapfn=words, reducefn=total, finishfn=finish
    )
    assert found == {"humpty": 20, "sat": 20}
    assert sorted(seen) == sorted(WORDS)
    found = server_runner.run_server(datasource=numbered(), mapfn=words, finishfn=total)
    assert found == WORDS


def test_an_error_in_finishfn_or_resultfn_ends_the_run(server_runner):
    """The fork hung."""
    with pytest.raises(ZeroDivisionError):
        server_runner.run_server(datasource=numbered(), mapfn=words, finishfn=lambda k, v: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        server_runner.run_server(
            datasource=numbered(), mapfn=words, resultfn=lambda txn, results: 1 / 0
        )
    assert server_runner.run_server(datasource=numbered(), mapfn=words, finishfn=total) == WORDS


def test_resultfn_gets_txn_and_results(server_runner):
    heard = []
    server = mincemeat.Server()
    server.set_datasource(numbered(), txn=("mine", 7))
    found = server_runner.run_server(
        server,
        mapfn=words,
        reducefn=total,
        resultfn=lambda txn, results: heard.append((txn, results)),
    )
    assert found is None
    assert heard == [(("mine", 7), WORDS)]


def test_output_holds_what_was_not_fetched(server_runner):
    server = mincemeat.Server()
    server.set_datasource(numbered(), txn=5)
    server.mapfn, server.reducefn = words, total
    server.conn("changeme", server_runner.port)
    assert list(server.output) == [(5, WORDS)]
    assert server.results() == WORDS
    assert server.results() is None


def test_applyover_and_generator_go_by_arity():
    def eager(items):
        raise TypeError("a bug of its own")

    pairs = [("a", [1, 2]), ("b", [3])]
    assert dict(mincemeat.applyover(total, pairs)) == {"a": 3, "b": 3}
    assert dict(mincemeat.applyover(lambda items: list(items), pairs)) == dict(pairs)
    assert dict(mincemeat.generator(total)(pairs)) == {"a": 3, "b": 3}
    with pytest.raises(TypeError, match="a bug of its own"):
        mincemeat.applyover(eager, pairs)
    assert dict(mincemeat.applyover(lambda k, vs, by=2: sum(vs) * by, pairs)) == {"a": 6, "b": 6}


# ------------------------------------------------------------------- what functions see


def test_closures_defaults_and_helpers_work(server_runner):
    """Unlike mincemeat.py, where functions had no globals of the script, defaults or closures."""
    offset = 5

    def mapper(k, v, step=10):
        yield helper(k), step + offset

    found = server_runner.run_server(datasource={1: 0, 2: 0}, mapfn=mapper, reducefn=total)
    assert found == {"helped 1": 15, "helped 2": 15}


def helper(k):
    return f"helped {k}"


def test_partials_and_methods_work(server_runner):
    class Scaler:
        def __init__(self, by):
            self.by = by

        def reduce(self, k, vs):
            return sum(vs) * self.by

    scaled = functools.partial(lambda by, k, v: [(k, v * by)], 3)
    found = server_runner.run_server(datasource={1: 2}, mapfn=scaled, reducefn=Scaler(7).reduce)
    assert found == {1: 42}


def test_functions_as_attributes_of_a_subclass(server_runner):
    class ScriptServer(mincemeat.Server):
        scale = 2

        @staticmethod
        def mapfn(k, v):
            return words(k, v)

        def reducefn(self, k, vs):
            return sum(vs) * self.scale

        def resultfn(self, txn, results):
            super().resultfn(txn, {k: -v for k, v in results.items()})

    server = ScriptServer()
    server.extra = "travels"
    assert server_runner.run_server(server, datasource={1: "a b a"}) == {"a": -4, "b": -2}
    assert server.password == "changeme"
    sent = cloudpickle.dumps(server.reducefn)
    assert b"travels" in sent
    assert b"changeme" not in sent


def test_functions_in_a_subclass_need_no_self_as_only_their_code_was_sent(server_runner):
    class ScriptServer(mincemeat.Server):
        def mapfn(k, v):
            return words(k, v)

        def reducefn(k, vs):
            return sum(vs)

    assert server_runner.run_server(ScriptServer(), datasource={1: "a b a"}) == {"a": 2, "b": 1}


def test_missing_names_of_mincemeats_globals_are_set():
    """Names are set on the worker only: here the functions keep their globals."""
    space = {"__builtins__": __builtins__, "os": "the user's own"}
    code = """
def mapfn(k, v):
    def inner():
        return hashlib, random, DEFAULT_PORT, os, len
    return inner(), helper()
def helper():
    return time.time()
"""
    exec(code, space)  # noqa: S102
    MincemeatGlobals([space["mapfn"]])()
    assert space["hashlib"].__name__ == "hashlib"
    assert space["random"].__name__ == "random"
    assert space["time"].__name__ == "time"
    assert space["DEFAULT_PORT"] == 11235
    assert space["os"] == "the user's own"
    assert "len" not in space
    assert "socket" not in space


def test_a_poison_item_ends_the_job_with_its_error(server_runner):
    """Unlike mincemeat.py, where it killed every worker in turn, and the server waited for ever."""
    with pytest.raises(ZeroDivisionError) as caught:
        server_runner.run_server(
            datasource={1: 1, 2: 0}, mapfn=lambda k, v: [(k, 1 / v)], reducefn=total
        )
    assert isinstance(caught.value, redismr.MapError)
    assert "key 2" in str(caught.value)
    assert server_runner.run_server(datasource=numbered(), mapfn=words, reducefn=total) == WORDS


def test_retransmit_0_switches_duplicates_off(server_runner, monkeypatch):
    """Issue #10 of mincemeat.py asked why the same work is done twice."""
    chosen = []
    real = redismr.run
    monkeypatch.setattr(redismr, "run", lambda *a, **o: chosen.append(o["backup"]) or real(*a, **o))
    for retransmit in (0, 5):
        server = mincemeat.Server()
        server.set_datasource({1: "a"}, retransmit=retransmit)
        assert server_runner.run_server(server, mapfn=words, reducefn=total) == {"a": 1}
    assert chosen == [False, True]


async def later(k, vs):
    return vs


def test_other_objects_than_functions_are_refused(server_runner):
    with pytest.raises(redismr.ConfigError, match="reducefn must be a function"):
        server_runner.run_server(datasource={1: 1}, mapfn=words, reducefn="total")
    with pytest.raises(redismr.ConfigError, match="reducefn must take"):
        server_runner.run_server(datasource={1: 1}, mapfn=words, reducefn=lambda a, b, c: 1)
    with pytest.raises(redismr.ConfigError, match="reducefn must be a plain function"):
        server_runner.run_server(datasource={1: 1}, mapfn=words, reducefn=later)


def test_functions_get_the_names_of_mincemeat_itself():
    for name, (module, attribute) in mincemeat_globals._MINCEMEAT_NAMES.items():
        assert getattr(importlib.import_module(module), attribute) is getattr(mincemeat, name)


def test_a_server_without_mincemeats_names_does_not_run():
    """Only ``redismr.compat.mincemeat`` gives servers the class that sets missing globals."""
    code = (
        "from redismr.compat.server import Server\n"
        "assert Server.initfn_class is None\n"
        "server = Server()\n"
        "server._hosted_server = object()\n"
        "try: server._run_job(None)\n"
        "except RuntimeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "import redismr.compat.mincemeat before a Server runs\n", done.stderr
