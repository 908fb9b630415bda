"""URLs that name sentinels: their meaning, and refusals that tell no password."""

from __future__ import annotations

import pytest

from redismr.config import Connection
from redismr.errors import ConfigError
from redismr.settings import resolve_connection
from redismr.store import Store
from redismr.store.sentinel import parse_sentinel_url

SECRET = "sixteen letters!"


def test_a_sentinel_url_names_hosts_service_database_and_logins():
    its = parse_sentinel_url(
        "redis+sentinel://me:p%40ss@a:1,b,[::1]:3/my%2Fservice/4"
        "?sentinel_username=u&sentinel_password=s"
    )
    assert its.sentinels == (("a", 1), ("b", 26379), ("::1", 3))
    assert (its.service, its.db, its.tls) == ("my/service", 4, False)
    assert its.login == {"username": "me", "password": "p@ss"}
    assert its.sentinel_login == {"username": "u", "password": "s"}


def test_only_hosts_and_service_are_needed():
    its = parse_sentinel_url("rediss+sentinel://a/svc")
    assert (its.sentinels, its.service, its.db) == ((("a", 26379),), "svc", 0)
    assert (its.login, its.sentinel_login, its.tls) == ({}, {}, True)


@pytest.mark.parametrize("scheme", ["redis", "valkey", "rediss", "valkeys"])
def test_a_client_asks_the_sentinels_and_repeats_nothing(scheme):
    connection = resolve_connection(
        f"{scheme}+sentinel://:hunter2@a:1,b:2/svc/3", SECRET, environ={}
    )
    assert connection is not None
    link = Store(connection).redis_client
    pool = link.client.connection_pool
    kwargs = pool.connection_kwargs
    assert (kwargs["password"], kwargs["protocol"]) == ("hunter2", 2)
    assert kwargs["retry"].get_retries() == 0
    assert link.db == 3
    assert link.shown_address == "the master of 'svc' (sentinels a:1, b:2)"
    for sentinel in pool.sentinel_manager.sentinels:
        its = sentinel.connection_pool.connection_kwargs
        assert its["retry"].get_retries() == 0
        assert its["socket_timeout"] == 1
        assert its.get("password") is None


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:hunter2@host",
        "redis+sentinel://:hunter2@host/",
        "redis+sentinel://:hunter2@/svc",
        "redis+sentinel://:hunter2@host:x/svc",
        "redis+sentinel://:hunter2@host:99999/svc",
        "redis+sentinel://:hunter2@host,/svc",
        "redis+sentinel://:hunter2@host/svc/db",
        "redis+sentinel://:hunter2@host/svc/0/1",
        "redis+sentinel://:hunter2@host/svc?sentinel_passwort=hunter2",
        "redis+sentinel://:hunter@2@host/svc",
        "redis+sentinel://:hunter/2@host/svc",
    ],
)
def test_another_form_is_refused_before_anything_is_sent(url):
    with pytest.raises(ConfigError, match="sentinel URL") as caught:
        Store(Connection(url=url, secret=SECRET))
    assert "hunter" not in str(caught.value)
