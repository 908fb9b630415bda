"""Wrong options are refused by name, before anything is started."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import redismr
from redismr.client import embedded
from redismr.config import OPTION_RULES, JobOptions, checked_executors, parse_job_options
from redismr.errors import ConfigError

NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([10**400, -(10**6000), 1 << 129]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.fractions(),
    st.sampled_from([np.int64(3), np.float32(0.5), np.bool_(1), np.arange(2), 1j]),
)
ANYTHING = st.one_of(
    NUMBERS,
    st.text(),
    st.sampled_from(["no", "fail", "skip", "\ud800", "x" * 2000, b"x", object(), [1], {}]),
)


@given(st.sampled_from(sorted(OPTION_RULES)), ANYTHING)
def test_a_value_is_kept_as_a_plain_value_or_refused_with_the_name_of_its_option(name, value):
    try:
        kept = getattr(parse_job_options({name: value}), name)
    except ConfigError as error:
        assert str(error).startswith(f"{name}=")
    else:
        assert type(kept) in (int, float, bool, str)
        assert kept == (float(value) if type(kept) is float else value)
        assert json.loads(json.dumps(kept).encode()) == kept  # as the spec is sealed
        assert not isinstance(kept, float) or math.isfinite(kept)


def test_every_option_has_a_rule_and_none_is_allowed_where_it_is_the_default():
    options = JobOptions()
    assert set(OPTION_RULES) == set(JobOptions.__dataclass_fields__)
    for name in OPTION_RULES:
        if getattr(options, name) is None or name == "wait_for_server":  # None waits for ever
            assert getattr(parse_job_options({name: None}), name) is None
        else:
            with pytest.raises(ConfigError, match=name):
                parse_job_options({name: None})


def test_one_error_names_all_wrong_options():
    with pytest.raises(ConfigError, match=r"retries=0\.5 must .*; ttl=inf must"):
        parse_job_options({"retries": 0.5, "ttl": math.inf})


def test_a_task_timeout_below_one_millisecond_is_refused():
    with pytest.raises(ConfigError, match=r"task_timeout=0\.0005 must be between 0\.001 seconds"):
        parse_job_options({"task_timeout": 0.0005})
    assert parse_job_options({"task_timeout": Fraction(1, 1000)}).task_timeout == 0.001


@pytest.mark.parametrize("executors", [0, -1, 2.0, True, "2", 10**6])
def test_a_wrong_number_of_executors_is_refused(executors):
    with pytest.raises(ConfigError, match="executors="):
        checked_executors(executors)


def mapfn(x):
    yield x, 1


WRONG_OPTIONS = {
    "partitions": 2.0,
    "params": [1],
    "inline": "no",
    "progress": "yes",
    "client": "redis://127.0.0.1",
    "wait_for_workers": math.nan,
}


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_nothing_is_started_for_a_wrong_option(name, monkeypatch):
    started = []
    monkeypatch.setattr(embedded, "EmbeddedBackend", lambda *_: started.append(name))
    with pytest.raises(ConfigError, match=f"^{name}="):
        redismr.run([1], mapfn, "sum", **{name: WRONG_OPTIONS[name]})
    assert not started


@pytest.mark.parametrize(
    "functions", [{"reducefn": "avg"}, {"finishfn": 5}, {"resultfn": len}, {"initfn": len}]
)
def test_nothing_is_started_for_a_wrong_function(functions, monkeypatch):
    monkeypatch.setattr(embedded, "EmbeddedBackend", lambda *_: pytest.fail("a server was started"))
    with pytest.raises(ConfigError, match=f"^{next(iter(functions))}") as caught:
        redismr.run([1], mapfn, **functions)
    assert len(caught.traceback) <= 2  # the frames of run and of this test


@pytest.mark.parametrize("name", sorted(set(WRONG_OPTIONS) - {"inline"}))
def test_an_inline_run_refuses_the_same_wrong_options(name):
    with pytest.raises(ConfigError, match=f"^{name}="):
        redismr.run([1], mapfn, "sum", inline=True, **{name: WRONG_OPTIONS[name]})


@pytest.mark.parametrize("seconds", [-1, 0, math.inf, "30", True])
def test_a_wrong_wait_for_server_is_refused_before_the_job_is_read(seconds):
    unconnected_client = object.__new__(redismr.Client)
    with pytest.raises(ConfigError, match=r"^wait_for_server="):
        unconnected_client.attach("wc-1", wait_for_server=seconds)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"finishfn": lambda: 0}, r"finishfn must take \(results\)"),
        ({"resultfn": lambda results: 0}, r"resultfn must take \(txn, results\)"),
        ({"combinefn": "sum", "collectfn": "sum"}, "combinefn and collectfn are two names"),
    ],
)
def test_functions_that_cannot_take_the_result_are_refused_before_the_source_is_read(
    functions, message
):
    def unread():
        raise AssertionError("the source was read")
        yield

    with pytest.raises(ConfigError, match=message):
        redismr.run(unread(), mapfn, "sum", inline=True, **functions)


@pytest.mark.parametrize("inline", [True, False])
def test_an_unknown_option_is_named_with_the_nearest_known_one(inline):
    with pytest.raises(redismr.ConfigError, match="retires; did you mean retries"):
        redismr.run([1], lambda x: [(x, 1)], "sum", retires=2, inline=inline)


@pytest.mark.parametrize(
    ("option", "value"),
    [("retries", -1), ("partitions", 0), ("lease", 0), ("chunk", 0), ("ttl", 0.1)],
)
def test_the_option_of_a_value_out_of_range_is_named(option, value):
    with pytest.raises(redismr.ConfigError, match=option):
        redismr.run([1], lambda x: [(x, 1)], "sum", **{option: value}, inline=True)
