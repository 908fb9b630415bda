"""The rights of each role: enough for its work, and all of them checked at first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from jobs import make_job
from roles import user_url
from support import script_names

from redismr.config import Connection
from redismr.errors import StoreError, UnfitServer
from redismr.store import Store
from redismr.store.acl_rules import ROLES, acl_rule, commands, probe_commands
from redismr.store.keys import KeyNames
from redismr.store.scripts import script
from redismr.store.server_fitness import _send_commands, check_server

HINTS = {"PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", "SELECT"}
"""Commands of channels, which carry hints, and SELECT, which only a URL with a database sends."""


@pytest.fixture
def connection(server):
    return Connection(url=server.url, secret=server.secret)


@pytest.mark.parametrize("role", ROLES)
def test_every_command_is_asked_for_as_the_server_takes_it(server, role):
    client, asked = (
        server.client(),
        probe_commands(role, KeyNames("redismr").control("probe", "meta")),
    )
    line = client.connection_pool.get_connection()
    _, *queued, _ = _send_commands(line, [("MULTI",), *asked.values(), ("DISCARD",)])
    assert dict(zip(asked, queued, strict=True)) == dict.fromkeys(asked, b"QUEUED")
    assert client.dbsize() == 0


@pytest.mark.parametrize("role", ROLES)
def test_a_user_who_is_made_by_its_rule_is_let_in(server, connection, role):
    admin = server.client()
    admin.acl_log_reset()
    check_server(replace(connection, url=user_url(server, role)), role)
    assert admin.dbsize() == 0
    assert not [row for row in admin.acl_log() if "setinfo" not in row["object"]]


@pytest.mark.parametrize("role", ROLES)
def test_each_command_that_a_user_lacks_is_named_with_the_way_out(server, connection, role):
    its, admin = replace(connection, url=user_url(server, role)), server.client()
    for command in set(commands(role)) - HINTS:
        admin.execute_command("ACL", "SETUSER", role, f"-{command}")
        with pytest.raises(UnfitServer) as caught:
            check_server(its, role)
        admin.execute_command("ACL", "SETUSER", role, f"+{command}")
        said = str(caught.value)
        assert f" {command.replace('|', ' ')} (NOPERM)" in said
        assert f"redismr acl {'submitter' if role == 'monitor' else role} --user {role}" in said
        assert "word" not in said.replace("password", "")
    assert admin.dbsize() == 0


def test_keys_that_a_user_may_not_touch_are_named(server, connection):
    url = user_url(server, "worker", namespace="other")
    said = r"use keys of the namespace redismr \(NOPERM\): set --namespace.*redismr acl worker"
    with pytest.raises(UnfitServer, match=said):
        check_server(replace(connection, url=url), "worker")
    check_server(replace(connection, url=url, namespace="other"), "worker")
    with pytest.raises(UnfitServer, match=r"`redismr acl worker --user worker --namespace third`"):
        check_server(replace(connection, url=url, namespace="third"), "worker")


def test_who_only_reads_cannot_write_by_a_script_either(server, connection, store):
    job = make_job(store, "j1")
    its = Store(replace(connection, url=user_url(server, "monitor")), patience=0)
    its.redis_client.check("monitor")
    assert its.status(job).state == "submitting"
    its.announce(job, 0, 0)  # a hint of one who may give none
    assert store.runnable() == []
    for write in (its.cancel, lambda job: its.delete(job, 1, 1)):
        with pytest.raises(UnfitServer, match="redismr acl submitter --user monitor"):
            write(job)
    with pytest.raises(StoreError):
        its.claim(job, "e", "n", 1)
    assert store.status(job).state == "submitting"
    its.redis_client.close()


@pytest.mark.parametrize("right", ["-lrange", "resetkeys"])
def test_what_is_refused_within_a_script_is_no_altered_key(server, connection, store, right):
    """Or the job would be ended as altered for what one worker may not do."""
    job = make_job(store, "j1")
    store.add(job, 0, 1)
    its = Store(replace(connection, url=user_url(server, "worker")), patience=0)
    server.client().execute_command("ACL", "SETUSER", "worker", right)
    with pytest.raises(StoreError, match="NOPERM") as caught:
        its.claim(job, "e", "n", 1)
    assert type(caught.value) is StoreError
    its.redis_client.close()


def test_rows_of_workers_that_are_gone_trouble_nobody_who_only_reads(server, connection):
    server.client().hset("redismr:workers", "w", '{"beat": 1}')
    its = Store(replace(connection, url=user_url(server, "monitor")), patience=0)
    assert its.worker_rows()[1] == {}
    its.redis_client.close()
    server.client().delete("redismr:workers")


def test_nobody_is_asked_for_rights_again(server, connection, store):
    its = Store(replace(connection, url=user_url(server, "submitter")), patience=0)
    its.redis_client.check("monitor")
    seen = []
    its.redis_client.check = lambda role: seen.append(role) or its.redis_client._roles.add(role)
    for _ in range(3):
        its.cancel("j0")
    assert seen == ["submitter"]
    ours = Store(connection, patience=0)  # as of a private server: never looked at
    assert ours.cancel("j0") == "GONE"
    assert not ours.redis_client._roles
    ours.redis_client.close()
    its.redis_client.close()


def test_every_script_is_of_somebody():
    used = set().union(*(commands(role) for role in ROLES))
    for name in script_names():
        assert script(name).commands <= used, name


def test_a_rule_names_its_namespace_and_no_password():
    line = acl_rule("worker", "me", "team")
    assert line.startswith("ACL SETUSER me reset on >PASSWORD ~team:* &team:* -@all +")
