"""The choice of URL, secret and namespace, and the errors for wrong ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import redis

from redismr.config import Connection
from redismr.errors import ConfigError
from redismr.settings import (
    SCHEMES,
    find_secret,
    ignored_url_note,
    is_debugging,
    redact_url,
    resolve_connection,
    resolve_namespace,
)

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sixteen letters!"
URL = "redis://one:6379/0"


def test_nothing_set_means_a_private_server() -> None:
    assert resolve_connection(environ={}) is None
    assert not ignored_url_note(environ={})


def test_empty_variables_are_not_set() -> None:
    names = ("REDISMR_URL", "REDIS_URL", "REDISMR_SECRET", "REDISMR_SECRET_FILE")
    assert resolve_connection(environ=dict.fromkeys((*names, "REDISMR_NAMESPACE"), "")) is None


def test_arguments_win() -> None:
    environ = {
        "REDISMR_URL": "redis://two",
        "REDIS_URL": "redis://three",
        "REDISMR_SECRET": "another sixteen!",
        "REDISMR_NAMESPACE": "other",
    }
    assert resolve_connection(URL, SECRET, "mine", environ) == Connection(
        url=URL, secret=SECRET, namespace="mine"
    )
    assert resolve_connection(environ=environ) == Connection(
        url="redis://two", secret="another sixteen!", namespace="other"
    )


def test_a_resolved_connection_is_no_private_server() -> None:
    connection = resolve_connection(URL, SECRET, environ={})
    assert connection
    assert not connection.embedded
    assert connection.namespace == "redismr"


def test_redis_url_counts_only_with_a_secret() -> None:
    environ = {"REDIS_URL": "redis://:hunter2@cache/0"}
    assert resolve_connection(environ=environ) is None
    assert "REDIS_URL (redis://***@cache/0) is ignored" in ignored_url_note(environ=environ)
    assert "\n" not in ignored_url_note(environ=environ)
    for secret, variables in ((SECRET, {}), (None, {"REDISMR_SECRET": SECRET})):
        found = resolve_connection(secret=secret, environ=environ | variables)
        assert found
        assert found.url == environ["REDIS_URL"]
        assert not ignored_url_note(secret=secret, environ=environ | variables)


def test_redismr_url_needs_a_secret() -> None:
    for url, environ in ((URL, {}), (None, {"REDISMR_URL": URL})):
        with pytest.raises(ConfigError, match=r"redismr secret.*REDISMR_SECRET"):
            resolve_connection(url, environ=environ)
        assert not ignored_url_note(url, environ=environ)


def test_a_short_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"16 characters.*redismr secret") as caught:
        resolve_connection(URL, "tooshort", environ={})
    assert "tooshort" not in str(caught.value)
    assert resolve_connection(URL, SECRET, environ={})


def test_a_private_server_needs_no_secret() -> None:
    assert resolve_connection(secret="short", environ={}) is None


# ------------------------------------------------------------------------- the secret's file


@pytest.mark.parametrize(
    ("contents", "secret"),
    [
        (b"sixteen letters!", SECRET),
        (b"sixteen letters!\n", SECRET),
        (b"sixteen letters!\r\n", SECRET),
        (b"sixteen letters!\n\n", SECRET + "\n"),
        (b" sixteen letters!", " " + SECRET),
        ("sechzehn Zeichen: äöü\n".encode(), "sechzehn Zeichen: äöü"),
    ],
)
def test_one_newline_at_its_end_is_not_the_secret(
    tmp_path: Path, contents: bytes, secret: str
) -> None:
    (tmp_path / "secret").write_bytes(contents)
    environ = {"REDISMR_SECRET_FILE": str(tmp_path / "secret")}
    assert find_secret(environ=environ) == secret
    found = resolve_connection(URL, environ=environ)
    assert found
    assert found.secret == secret


def test_the_order_of_secrets(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file")
    environ = {"REDISMR_SECRET_FILE": str(tmp_path / "secret")}
    assert find_secret(environ=environ) == "from the file"
    environ["REDISMR_SECRET"] = "from the environment"
    assert find_secret(environ=environ) == "from the environment"
    assert find_secret("argument", environ) == "argument"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=f"REDISMR_SECRET_FILE=.*{reason}"):
            resolve_connection(URL, environ={"REDISMR_SECRET_FILE": str(path)})


def test_a_file_that_is_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hidden\xff\xfe\xfd")
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        resolve_connection(URL, environ={"REDISMR_SECRET_FILE": str(tmp_path / "secret")})
    assert caught.value.__cause__ is None
    assert "hidden" not in str(caught.value)


def test_an_empty_file_is_a_secret_that_is_too_short(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigError, match="16 characters"):
        resolve_connection(URL, environ={"REDISMR_SECRET_FILE": str(tmp_path / "secret")})


# ------------------------------------------------------------------------- the password

AWKWARD = ["plain", "p@ss:w/o#r?d", "two words", "it's", 'a "quote"', "$HOME%41\\n", "pässwörd+&="]


@pytest.mark.parametrize("password", AWKWARD)
@pytest.mark.parametrize(
    "url",
    ["redis://{}one:6379/0", "unix://{}/run/r.sock?db=1", "redis+sentinel://{}a:26379,b/main/0"],
)
@pytest.mark.parametrize("user", ["", "redismr"])
def test_a_password_beside_the_url_is_taken_as_it_is(
    tmp_path: Path, password: str, url: str, user: str
) -> None:
    (tmp_path / "password").write_text(password + "\n")
    plain = {"REDISMR_URL": url.format(f"{user}@" if user else "")}
    for name, value in (("", password), ("_FILE", str(tmp_path / "password"))):
        found = resolve_connection(
            secret=SECRET, environ={**plain, f"REDISMR_PASSWORD{name}": value}
        )
        assert found
        assert found.url == url.format(f"{user}:{quote(password, safe='')}@")
        if "sentinel" not in url:
            known = redis.Redis.from_url(found.url).get_connection_kwargs()
            assert known["password"] == password
            assert known.get("username") == (user or None)


@pytest.mark.parametrize(
    "url", ["redis://:own@one/0", "redis://me:own@one/0", "unix:///s?password=own&db=0"]
)
def test_a_password_in_the_url_wins(url: str) -> None:
    for environ in ({"REDISMR_PASSWORD": "other"}, {"REDISMR_PASSWORD": ""}, {}):
        found = resolve_connection(url, SECRET, environ=environ)
        assert found
        assert found.url == url


def test_redis_url_gets_no_redismr_password() -> None:
    environ = {"REDIS_URL": "redis://cache/0", "REDISMR_PASSWORD": "p", "REDISMR_SECRET": SECRET}
    found = resolve_connection(environ=environ)
    assert found
    assert found.url == "redis://cache/0"


def test_a_password_that_cannot_be_read_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"hidden\xff")
    for name, value, reason in (
        ("REDISMR_PASSWORD_FILE", str(tmp_path / "none"), "No such file"),
        ("REDISMR_PASSWORD_FILE", str(tmp_path / "password"), "not UTF-8"),
        ("REDISMR_PASSWORD", "hidden\udcff", "not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=f"{name}.*{reason}") as caught:
            resolve_connection(URL, SECRET, environ={name: value})
        assert "hidden" not in str(caught.value)


# ------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("redis://host:1/2", "redis://host:1/2"),
        ("rediss://u:p@host/0", "rediss://u:p@host/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("unix://u:p@/run/redis.sock", "unix://u:p@/run/redis.sock"),
        ("valkey://host", "redis://host"),
        ("valkeys://host:1/2", "rediss://host:1/2"),
        ("REDIS://host", "redis://host"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
    ],
)
def test_urls_that_redis_py_understands(given: str, taken: str) -> None:
    connection = resolve_connection(given, SECRET, environ={})
    assert connection
    assert connection.url == taken
    redis.Redis.from_url(taken).close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host", "http://"),
        ("redis+cluster://u:hunter2@host/m", r"redis\+cluster://"),
        ("memcached://u:hunter2@host", "memcached://"),
        ("host:6379", "not a URL"),
        ("user:hunter2@host:6379", "not a URL"),
        ("", "not a URL"),
        ("redis://", "not a URL"),
        ("redis:/host", "not a URL"),
        ("redis://:hunter2@host:port/0", "host or port"),
        ("redis://:hunter2@host:99999/0", "host or port"),
        ("redis://:hunter2@[::1/0", "host or port"),
        ("redis://:hunter2@host/jobs", "database number"),
        ("rediss://:hunter2@host/1/2", "database number"),
    ],
)
def test_other_urls_are_refused_by_name(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        resolve_connection(url, SECRET, environ={})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_error_says_where_the_url_came_from() -> None:
    with pytest.raises(ConfigError, match="^REDISMR_URL .*" + ".*".join(map(re.escape, SCHEMES))):
        resolve_connection(environ={"REDISMR_URL": "ftp://host", "REDISMR_SECRET": SECRET})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:hunter2@host:6379/0", "redis://***@host:6379/0"),
        ("redis://user:hunter2@host", "redis://***@host"),
        ("redis://hunter2@host", "redis://***@host"),
        ("redis://:hun@ter2@host", "redis://***@host"),
        ("redis://:a/hunter2@host", "redis://***@host"),
        ("redis://:a#hunter2@host", "redis://***@host"),
        ("unix://u:hunter2@/run/s?db=0", "unix://***@/run/s?db=0"),
        ("unix:///run/s?password=hunter2&db=0", "unix:///run/s?password=***&db=0"),
        ("redis://h?ssl_password=hunter2", "redis://h?ssl_password=***"),
        (":hunter2@host", "***@host"),
        ("redis:/:hunter2@host", "redis:/***@host"),
        ("redis://:hun\nter2@host", "redis://***@host"),
        ("", ""),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redact_url(url) == shown


# ------------------------------------------------------------------------- namespaces


@pytest.mark.parametrize("name", ["redismr", "team-a", "a.b_c", "a:b", "7", "x" * 64])
def test_namespaces(name: str) -> None:
    assert resolve_namespace(name, {}) == name
    assert resolve_namespace(None, {"REDISMR_NAMESPACE": name}) == name


@pytest.mark.parametrize("name", ["", "a b", "{a}", "a*", "a?", "[a]", "~a", "x" * 65, "a\n", ":a"])
def test_namespaces_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        resolve_namespace(name, {})


@pytest.mark.parametrize("value", ["\udcff" * 20, "\ud800"])
@pytest.mark.parametrize("name", ["REDISMR_URL", "REDISMR_SECRET", "REDISMR_NAMESPACE"])
def test_bytes_that_are_no_text_are_refused_with_the_name_of_the_variable(name, value) -> None:
    environ = {"REDISMR_URL": URL, "REDISMR_SECRET": SECRET, name: value}
    with pytest.raises(ConfigError, match=f"{name} is not UTF-8 text"):
        resolve_connection(environ=environ)


@pytest.mark.parametrize("value", [5, b"redis://one", ["x"]])
@pytest.mark.parametrize("name", ["URL", "secret", "namespace"])
def test_an_argument_is_text(name, value) -> None:
    given = {"url": URL, "secret": SECRET, name.lower(): value}
    with pytest.raises(ConfigError, match=f"the {name} must be a str"):
        resolve_connection(**given, environ={})


def test_a_namespace_is_refused_with_the_name_of_the_variable() -> None:
    with pytest.raises(ConfigError, match="REDISMR_NAMESPACE 'a b' must be"):
        resolve_namespace(environ={"REDISMR_NAMESPACE": "a b"})


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("", False), ("0", False), ("false", False), ("No", False), ("1", True), ("yes", True)],
)
def test_debugging_is_asked_for_in_words_for_yes_and_no(value: str, wanted: bool) -> None:
    assert is_debugging({"REDISMR_DEBUG": value}) is wanted
    assert not is_debugging({})
