"""Secrets and passwords: refused, blanked or left behind, but never written to Redis."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import re
import sys
import zlib
from types import ModuleType
from urllib.parse import quote

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from security.conftest import tiny
from system.processes import SECRET, run_command, write_script

import redismr
from redismr import confidential
from redismr.client.embedded import LocalWorker
from redismr.compat.mincemeat import Server
from redismr.confidential import weakness_of
from redismr.config import Connection
from redismr.core.failure_capture import make_failure
from redismr.core.job_payloads import JobSealer
from redismr.core.printable import printable_text, short_repr
from redismr.core.seal import Keyring, new_secret, zstd
from redismr.errors import BadValue, CodeError, ConfigError
from redismr.server.credentials import derived_credentials
from redismr.settings import resolve_connection
from redismr.shipping import load_code, pack
from redismr.shipping.modules import ModuleSource
from redismr.shipping.source_redaction import redact_modules

WORD = "kT3-vB9_qL7xN2wZ"
PASSWORD = "p/8@xW:2%dQ5"
URL = f"redis://me:{quote(PASSWORD, safe='')}@127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def connection():
    """Return a connection whose secrets are remembered until the end of the test."""
    words, private = dict(confidential._forms_by_word), set(confidential._private_words)
    yield Connection(url=URL, secret=WORD)
    confidential._forms_by_word.clear()
    confidential._forms_by_word.update(words)
    confidential._private_words.intersection_update(private)
    confidential.remember_secrets()  # searches for these again


def from_main(source, name="mapfn", **names):
    scope = {"__name__": "__main__", **names}
    exec(source, scope)  # noqa: S102
    return scope[name]


# ------------------------------------------------------------------------- functions and params

USES = {
    "a global": ("the global 'G'", "def mapfn(k, v): yield k, G", WORD),
    "bytes": ("the global 'G'", "def mapfn(k, v): yield k, G", WORD.encode()),
    "in a text": ("the global 'G'", "def mapfn(k, v): yield k, G", f"token={WORD};"),
    "hex": ("the global 'G'", "def mapfn(k, v): yield k, G", WORD.encode().hex()),
    "base64": ("the global 'G'", "def mapfn(k, v): yield k, G", base64.b64encode(WORD.encode())),
    "the password": ("the global 'G'", "def mapfn(k, v): yield k, G", PASSWORD),
    "the url": ("the global 'G'", "def mapfn(k, v): yield k, G", URL),
    "deep": ("the value at 'b'", "def mapfn(k, v): yield k, G", {"a": 1, "b": [1, (WORD,)]}),
    "a default": ("the default of 's'", "def mapfn(k, v, *, s=G): yield k, s", WORD),
    "its code": ("a function", f"def mapfn(k, v): yield k, {WORD!r}", None),
    "two halves": ("a function", f"def mapfn(k, v): yield k, {WORD[:5]!r} {WORD[5:]!r}", None),
    "a helper": ("'h'", f"def h(): return {WORD!r}\ndef mapfn(k, v): yield k, h()", None),
    "a closure": (
        "the closure variable 's'",
        "def make(s):\n def mapfn(k, v): yield k, s\n return mapfn\nmapfn = make(G)",
        WORD,
    ),
    "a class": ("'C'", f"class C: word = {WORD!r}\ndef mapfn(k, v): yield k, C", None),
}


@pytest.mark.parametrize("use", USES)
def test_a_function_that_holds_it_is_refused_by_name(use):
    where, source, value = USES[use]
    with pytest.raises(CodeError) as caught:
        pack({"mapfn": from_main(source, G=value)})
    text = str(caught.value)
    assert text.startswith("mapfn cannot be sent to workers: ")
    assert where in text
    assert "holds the secret that signs jobs" in text
    assert "Read it where it is used" in text
    assert WORD not in text
    assert PASSWORD not in text


def test_params_and_names_that_hold_it_are_refused_by_name(testbed):
    with pytest.raises(CodeError, match=r"params\['deep'\] .*the value at 'x'.*holds the secret"):
        pack({"mapfn": tiny}, {"deep": {"x": WORD}, "fine": 1})
    for option in ("name", "txn"):
        with pytest.raises(ConfigError, match=f"{option} holds a secret") as caught:
            testbed.client.submit([1], tiny, "sum", **{option: f"job {SECRET}"})
        assert SECRET not in str(caught.value)
    assert not testbed.redis.keys("*")


def test_an_unused_class_that_holds_it_stays_behind(monkeypatch):
    main = ModuleType("__main__")
    exec(f"class Old:\n def go(self): return {WORD!r}\nclass Fine: pass", vars(main))  # noqa: S102
    monkeypatch.setitem(sys.modules, "__main__", main)
    packed_code = pack({"mapfn": from_main("def mapfn(k, v): yield k, v")})
    assert WORD.encode() not in packed_code.code
    script_namespaces = load_code(packed_code.code, worker=False).script_namespaces
    assert script_namespaces.get_script_class("__main__", "Fine").__name__ == "Fine"
    with pytest.raises(AttributeError):
        script_namespaces.get_script_class("__main__", "Old")


def test_words_that_anybody_would_guess_are_not_looked_for():
    """A script of mincemeat.py has "changeme" in it, and a job may name a password field."""
    derived_credentials("changeme")
    Connection(url="redis://:password@h/0", secret=WORD)
    fn = from_main("def mapfn(k, v): yield 'password', 'changeme'")
    assert list(load_code(pack({"mapfn": fn}).code, worker=False).functions["mapfn"](1, 2))
    shown = confidential.redact_all_words("run(password='changeme')")
    assert shown == "run(***='***')"
    for word in ("x", "redis123", "password1", "elephant"):
        confidential.remember_secrets(word)
        assert not confidential.contains_secret(f"a text with {word} in it".encode())
    assert confidential.redact_all_words("yield x, 'x', exit") == "yield x, '***', exit"


# ------------------------------------------------------------------------- sources

WRITTEN = {
    "plain": f'X = "{WORD}"',
    "bytes": f'X = b"{WORD}"',
    "halves": f'X = "{WORD[:4]}" "{WORD[4:]}"',
    "sum": f'X = "{WORD[:4]}" + ("{WORD[4:]}" + ".")',
    "lines": f'X = ("{WORD[:4]}"\n     "{WORD[4:]}")',
    "escaped": 'X = "' + "".join(f"\\x{ord(c):02x}" for c in WORD) + '"',
    "f-string": f'Y = 1; X = f"a:{WORD}@{{Y}}"',
    "url": f'X = "{URL}"',
    "of a name": f'A = "{WORD}"; X = f"redis://:{{A}}@h/0"',
    "of a fallback": f'import os; A = os.environ.get("NOPE", "{WORD}"); X = "a:%s@%d" % (A, 1)',
    "format": f'A: str = "{WORD}"; X = "a:{{}}@b".format(A.strip())',
    "checked": f'X = "{WORD}"\nif not X or not isinstance(X, str): raise ValueError',
    "comment": f"X = 1  # {WORD}",
    "docstring": f'X = 1\ndef f():\n    """{WORD}"""',
    "default": f'X = 1\ndef f(s="{WORD}"): pass',
    "after é": f'É = "é"; X = "{WORD}"; Z = "é"',
    "form feed": f'\x0cX = "{WORD}"',
    "windows": f'A = 1\r\nX = "{WORD}"\r\n',
}


@pytest.mark.parametrize("way", WRITTEN)
def test_a_module_travels_without_it_and_says_so_where_it_is_used(way):
    source = f"BEFORE = 1\n{WRITTEN[way]}\ndef line(): raise ValueError\n"
    sent = redact_modules({"conf": ModuleSource("conf.py", source, None)})["conf"].source
    assert WORD not in sent
    assert quote(PASSWORD, safe="") not in sent
    scope = {"__name__": "conf"}
    exec(compile(sent, "conf.py", "exec"), scope)  # noqa: S102
    whole = {}
    exec(compile(source, "conf.py", "exec"), whole)  # noqa: S102
    assert scope["line"].__code__.co_firstlineno == whole["line"].__code__.co_firstlineno
    if way in ("comment", "docstring", "default"):
        assert scope["X"] == 1
        return
    assert scope["X"]
    assert isinstance(scope["X"], bytes if way == "bytes" else str)
    for use in (
        str, len, hash, iter, bytes, lambda x: x + "a", lambda x: "a" + x,
        lambda x: x == "a", lambda x: x.encode(), lambda x: f"{x}", pickle.dumps,
    ):  # fmt: skip
        with pytest.raises(CodeError, match=r"of the module conf holds a secret.*Read it"):
            use(scope["X"])
    if way != "bytes":
        with pytest.raises(CodeError, match="of the module conf holds a secret"):
            os.environ["REDISMR_SECRET"] = scope["X"]
    assert "stayed with the submitter" in repr(scope["X"])


def test_a_name_in_a_function_may_mean_another_thing():
    source = f'A = "{WORD}"\ndef f(A): return f"<{{A}}>"\n'
    sent = redact_modules({"conf": ModuleSource("conf.py", source, None)})["conf"].source
    exec(sent, scope := {})  # noqa: S102
    assert scope["f"](1) == "<1>"


def test_a_module_that_cannot_do_without_is_refused_by_name():
    source = f'match x:\n    case "{WORD}":\n        pass\n'
    with pytest.raises(
        CodeError, match=r"module conf cannot be sent.*/a/conf.py, line 2"
    ) as caught:
        redact_modules({"conf": ModuleSource("/a/conf.py", source, None)})
    assert WORD not in str(caught.value)


def test_modules_without_it_are_sent_as_they_are():
    module = ModuleSource("m.py", 'X = "anything"\n', None)
    assert redact_modules({"m": module})["m"] is module


# ------------------------------------------------------------------------- a whole job

JOB = '''
import os, pathlib, sys
import redismr
import settings
from settings import SECRET
# {secret} {password}
HERE = pathlib.Path(__file__).parent
HALF = "{half}" "{other}"
class Unused:
    """A class of the script that knows too much."""
    def connect(self, secret="{secret}"):
        return redismr.Client(os.environ["URL"], secret=secret)
def mapfn(n, x):
    return helper(n, x)
def helper(n, x):
    text = (HERE / "settings.py").read_text()
    if n == 1:
        raise ValueError(text)
    redismr.count("fine")
    yield x, n
def leak(n, x):
    yield x, (HERE / "settings.py").read_text()
if __name__ == "__main__":
    with redismr.Client(os.environ["URL"], secret=SECRET) as c:
        try:
            c.run([1, 2], leak, partitions=1)
        except redismr.BadValue as error:
            print("refused", error)
        job = c.submit([1, 2], mapfn, "sum", ttl=60, on_error=1, txn="kept")
        print("skipped", [f.message for f in job.result().skipped])
        job = c.submit([1, 2], mapfn, "sum", ttl=60, retries=0)
        try:
            job.result()
        except ValueError as error:
            print("failed", error)
'''


def seen_by_a_reader(client):
    """Return all data in Redis, as it is and decompressed."""
    seen = b""
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        if kind == b"string":
            blobs = [client.get(key)]
        elif kind == b"hash":
            blobs = [part for item in client.hgetall(key).items() for part in item]
        elif kind == b"list":
            blobs = client.lrange(key, 0, -1)
        else:
            blobs = client.zrange(key, 0, -1)
        for blob in (key, *blobs):
            seen += blob
            for found in re.finditer(rb"\x28\xb5\x2f\xfd", blob):
                try:
                    seen += zstd.decompress(blob[found.start() :])
                except zstd.ZstdError:
                    continue
            for at in range(min(len(blob), 100)):
                try:
                    seen += zlib.decompress(blob[at:])
                except zlib.error:
                    continue
    return seen


def test_nothing_in_redis_tells_it(server, processes, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    write_script(folder, f'SECRET = "{SECRET}"\nURL = "redis://:{WORD}@h/0"\n', "settings.py")
    body = JOB.format(secret=SECRET, password=WORD, half=SECRET[:9], other=SECRET[9:])
    worker = processes.worker(1)
    done = run_command(
        sys.executable, write_script(folder, body), cwd=folder, secret=None, URL=server.url
    )
    assert done.returncode == 0, done.stderr
    refused, skipped, failed = done.stdout.split("skipped")[0], *done.stdout.split("failed")
    assert refused.startswith("refused")
    assert "holds the secret" in refused
    assert "SECRET = " in skipped.partition("skipped")[2]
    assert "raise ValueError(text)" in failed, "the line that a traceback shows"
    seen = seen_by_a_reader(server.client())
    assert b"kept" in seen
    assert b"mapfn" in seen
    assert b"A class of the script" not in seen, "more of the script than tracebacks show"
    for word in (SECRET, SECRET[9:]):
        assert word.encode() not in seen
        assert word not in worker.log + done.stdout + done.stderr


def test_an_item_a_value_and_a_result_with_it_are_refused(testbed):
    with pytest.raises(BadValue, match="an item of the input holds the secret") as caught:
        testbed.submit(source={"a": SECRET})
    assert SECRET not in str(caught.value)
    with pytest.raises(redismr.JobError):
        testbed.client.submit([1], tiny).result(0.01)
    ring = Keyring(SECRET, "redismr")
    for kind in ("segment", "out", "manifest", "result", "code", "spec"):
        with pytest.raises(BadValue, match="holds the secret that signs jobs"):
            ring.seal("j", kind, (), b"x" + SECRET.encode())


# ------------------------------------------------------------------------- objects


def test_what_holds_it_refuses_to_be_pickled_by_name(testbed):
    job = testbed.submit(tiny, reducefn="sum")
    ring = testbed.worker.keyring
    things = [
        testbed.client,
        testbed.connection,
        job,
        ring,
        JobSealer(ring, "j"),
        testbed.client._store.redis_client,
    ]
    for thing in things:
        name = type(thing).__name__
        for use in (pickle.dumps, cloudpickle.dumps, copy.deepcopy):
            with pytest.raises(
                TypeError, match=rf"a {name} holds a secret .*make another"
            ) as caught:
                use(thing)
            assert SECRET not in str(caught.value)
        with pytest.raises(
            CodeError, match=rf"the global 'G', a [\w.]*{name}, which holds a secret"
        ):
            pack({"mapfn": from_main("def mapfn(k, v): yield G", G=thing)})
        with pytest.raises(CodeError, match=r"params\['x'\]"):
            pack({"mapfn": tiny}, {"x": thing})
        assert SECRET not in repr(thing)
    results = dict(testbed.outcome())
    assert results
    testbed.run_until("succeeded")
    with pytest.raises(TypeError, match="the result of a job holds a secret"):
        pickle.dumps(job.result())
    assert issubclass(LocalWorker, confidential.Unpicklable)


def test_a_server_of_mincemeat_still_travels_with_its_methods():
    server = Server()
    server.password = "changeme"
    assert b"changeme" not in pickle.dumps(server)


# ------------------------------------------------------------------------- texts


def test_texts_for_people_have_it_blanked():
    assert printable_text(f"a {WORD} b") == "a *** b"
    assert printable_text("x" * 490 + WORD)[-20:].count("kT3") == 0
    for value in (WORD, [WORD], {"k": ("a" * 60 + WORD + "b" * 200)}, "x" * 60 + WORD + "y" * 9**6):
        shown = short_repr(value)
        assert not any(WORD[i : i + 6] in shown for i in range(len(WORD) - 6)), shown
    assert "secret in them" in short_repr(b"a" * 90 + WORD.encode())


@given(st.text(min_size=16, max_size=40).filter(lambda t: not weakness_of(t)), st.binary())
def test_a_word_is_found_in_all_its_forms(word, around):
    try:
        data = word.encode()
    except UnicodeEncodeError:
        return
    confidential.remember_secrets(word)
    for form in (data, data.hex().encode(), quote(word, safe="").encode(), pickle.dumps([word])):
        assert confidential.contains_secret(around + form + around)
    assert confidential.contains_secret(base64.b64encode(around + data + around))
    assert confidential.contains_secret(base64.urlsafe_b64encode(around + data + around))
    assert word not in confidential.redact_secrets(f"a{word}b")


def test_a_failure_whose_class_or_function_is_named_so_can_be_handed_in():
    """A failure that cannot be sealed would be tried again for ever."""
    error = type(WORD, (Exception,), {"__module__": WORD})("text")
    failure = make_failure(error, stage="map", task="m0")
    assert WORD not in repr(failure)
    assert (failure.error_module, failure.error_name) == ("***", "***")
    JobSealer(Keyring(SECRET, "redismr"), "j").seal_failure(failure, "m0")


# ------------------------------------------------------------------------- no secrets

NO_SECRETS = (
    "0" * 16, "a" * 64, "00" * 32, "1234567890123456", "0123456789abcdef", "fedcba9876543210",
    "passwordpassword", "changemechangeme", "changeme-changeme", "my-secret-password",
    "supersecretpassword", "Password12345678!", "qwertyuiopasdfgh", "abababababababab",
    "redismr-secret-1", "this-is-not-a-secret", "hunter2hunter2hunter2", "aaaaaaaabbbbbbbb",
    "abcdefghijklmnop", "tooshort", "",
)  # fmt: skip


@pytest.mark.parametrize("word", NO_SECRETS)
def test_what_others_guess_is_no_secret(word):
    with pytest.raises(ConfigError, match=r"the secret .*guessed.*redismr secret") as caught:
        resolve_connection("redis://h", word, environ={})
    assert not word or len(word) < 3 or word not in str(caught.value)
    with pytest.raises(ConfigError, match=r"redismr secret"):
        redismr.serve("0.0.0.0", password=word)  # noqa: S104


def test_what_redismr_secret_makes_is_one():
    assert not [word for _ in range(300) if weakness_of(word := new_secret())]


@given(st.binary(min_size=32, max_size=32).filter(lambda b: len(set(b)) > 20))
def test_random_bytes_are_one_in_hex_and_base64(data):
    assert not weakness_of(data.hex())
    assert not weakness_of(base64.b64encode(data).decode())


@pytest.mark.parametrize("word", ["sixteen letters!", "correct horse battery staple", WORD])
def test_other_words_are_secrets(word):
    assert resolve_connection("redis://h", word, environ={}).secret == word


def test_the_oldest_words_are_forgotten_and_the_clients_own_never(testbed):
    for _ in range(100):
        derived_credentials(new_secret())
    assert not confidential.contains_secret(SECRET.encode())
    with pytest.raises(CodeError, match="holds the secret"):
        testbed.client.submit([1], tiny, params={"x": SECRET})
