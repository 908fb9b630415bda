"""The scripts and their headers: names, indices, flags."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from support import script_names

from redismr.core.model import RUNNING_STATES
from redismr.store.keys import CONTROL
from redismr.store.scripts import script

VERBS = script_names()
REFUSED_WHEN_FULL = {"create"}


def source_of(name):
    return resources.files("redismr.store").joinpath("lua", f"{name}.lua").read_text()


def test_every_verb_has_a_script():
    assert {"create", "add", "close", "claim", "renew", "commit", "fail", "release"} <= set(VERBS)
    assert {"reclaim", "invalidate", "cancel", "map_outputs", "status"} <= set(VERBS)


def test_the_prelude_runs_jobs_in_the_states_of_the_model():
    (listed,) = re.findall(r"^local RUNNING = \{(.*)\}$", source_of("_prelude"), re.MULTILINE)
    assert sorted(re.findall(r"(\w+) = true", listed)) == sorted(RUNNING_STATES)


@pytest.mark.parametrize("name", VERBS)
def test_header_names_what_the_body_uses(name):
    loaded = script(name)
    body = loaded.source.split("\n", 1)[1]
    assert loaded.argv[0] == "now_ms"
    for key in loaded.keys:
        assert key.rstrip("_") in CONTROL, f"{name}.lua declares an unknown key {key}"
    code = re.sub(r"--[^\n]*", "", body)
    assert not re.search(r"\b(KEYS|ARGV)\b", re.sub(r"--[^\n]*", "", source_of(name)))
    for key in loaded.keys:
        assert len(re.findall(rf"\b{key}\b", code)) > 1, f"{name}.lua never uses its key {key}"


READS = {"status", "map_outputs"}
"""Scripts that a server without writes answers, too."""


@pytest.mark.parametrize("name", VERBS)
def test_only_what_stores_more_is_refused_by_a_full_server(name):
    first = script(name).source.split("\n", 1)[0]
    flags = " flags=allow-oom,no-writes" if name in READS else " flags=allow-oom"
    assert first == ("#!lua" if name in REFUSED_WHEN_FULL else f"#!lua{flags}")


@pytest.mark.parametrize("name", VERBS)
def test_header_says_what_is_guaranteed_and_returned(name):
    text = source_of(name)
    assert text.startswith("-- "), "the first line is the guarantee"
    assert "-- KEYS: " in text and "-- ARGV: now_ms" in text and "RETURNS: " in text


def test_wrong_names_are_refused_before_the_server_is_asked():
    with pytest.raises(TypeError, match="claim"):
        script("claim").arguments({}, {"now_ms": "", "executor": "e"}, ())


def test_scripts_are_loaded_again_after_a_flush(server, store, job):
    store.add(job, 0, 1)
    server.client().script_flush()
    assert store.claim(job, "e", "n", 1).tasks == ("m0",)
