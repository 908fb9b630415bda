"""A subscription that a forked child inherits."""

from __future__ import annotations

import os

from redismr.store.channel import Subscription


def test_a_forked_child_does_not_read_its_parents_messages(server):
    client = server.client()
    with Subscription(client, "news") as channel:
        assert channel.get(5) is None
        assert channel.resubscribed
        for number in range(3):
            client.publish("news", number)
        pid = os.fork()
        if pid == 0:
            heard = [channel.get(0.2) for _ in range(3)]
            os._exit(sum(message is not None for message in heard))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [channel.get(5) for _ in range(3)] == [b"0", b"1", b"2"]
