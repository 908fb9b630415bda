"""A master, its replica, and Sentinels that watch them: for tests of failover."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import redis
from support import Server, eventually, open_client, server_binary
from support import _end_with_pytest as end_with_pytest

SERVICE = "rmr"


class SentinelGroup:
    """Two servers and some Sentinels on loopback ports; ``url`` names the Sentinels."""

    def __init__(self, server_kind: str, *, sentinels: int = 3) -> None:
        ports = free_ports(2 + sentinels)
        self.directory = Path(tempfile.mkdtemp(prefix="rmr-sentinel-", dir="/tmp"))
        self._processes: list[subprocess.Popen[bytes]] = []
        fast = {"repl_diskless_sync_delay": "0", "repl_ping_replica_period": "1"}
        self.servers = {port: Server(server_kind, port=port, **fast) for port in ports[:2]}
        self._admin(ports[1]).replicaof("127.0.0.1", ports[0])
        for port in ports[2:]:
            self._watch(server_kind, port, ports[0], sentinels // 2 + 1)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[2:])
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"
        self.sentinel = open_client(f"redis://127.0.0.1:{ports[2]}", decode_responses=True)
        try:
            eventually(self._is_listening)
            eventually(self.is_settled, 30, "the Sentinels do not see the replica and each other")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End servers and Sentinels."""
        for process in self._processes:
            process.kill()
            process.wait()
        for server in self.servers.values():
            server.close()
        self.sentinel.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def master(self) -> int:
        """The port of the master, as the Sentinels see it."""
        _, port = self.sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)

    def is_settled(self) -> bool:
        """True if the replica follows the master and all Sentinels know both: it may take over."""
        master = self.master
        (other,) = self.servers.keys() - {master}
        link = self._role(other)
        (seen,) = self.sentinel.sentinel_masters().values()
        replicas = self.sentinel.sentinel_slaves(SERVICE)
        return (
            self._role(master).get("role") == "master"
            and (link.get("master_port"), link.get("master_link_status")) == (master, "up")
            and [replica["flags"] for replica in replicas] == ["slave"]
            and seen["flags"] == "master"
            and int(seen["num-other-sentinels"]) == len(self._processes) - 1
        )

    def _is_listening(self) -> bool:
        with contextlib.suppress(redis.ConnectionError):
            return bool(self.sentinel.ping())
        return False

    def fail_over(self) -> int:
        """Fail over, wait until the other server is the master, and return the old master's port.

        Sentinel leaves the old one a master for some 10 s: its clients stay connected, and their
        writes are lost.
        """
        before = self.master

        def request_failover() -> bool:
            with contextlib.suppress(redis.ResponseError):  # the last failover is not over
                self.sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
                return True
            return False

        eventually(request_failover, 20)
        self._wait_for_other(before)
        return before

    def demote(self, port: int) -> None:
        """Make an old master a replica now. Connections stay open, and writes get READONLY."""
        if self.master == port:  # a second failover made it the master again
            return
        server = self.servers[port]
        server.settings["replicaof"] = f"127.0.0.1 {self.master}"
        with contextlib.suppress(redis.ConnectionError):  # Sentinel demoted it first
            self._admin(port).replicaof("127.0.0.1", self.master)

    def crash(self) -> None:
        """Kill -9 the master; it comes back as a replica when the other one has taken over."""
        before = self.master
        self.servers[before].kill()
        self._wait_for_other(before)
        self.servers[before].settings["replicaof"] = f"127.0.0.1 {self.master}"
        self.servers[self.master].settings.pop("replicaof", None)
        self.servers[before].restart()

    def _wait_for_other(self, before: int) -> None:
        eventually(lambda: self.master != before, 30, "no failover")
        eventually(lambda: self._role(self.master).get("role") == "master", 30)

    def _admin(self, port: int) -> redis.Redis:
        return self.servers[port]._admin

    def _role(self, port: int) -> dict[str, object]:
        # Sentinel disconnects the clients of a demoted master
        with contextlib.suppress(redis.ConnectionError):
            return dict(self._admin(port).info("replication"))
        return {}

    def _watch(self, server_kind: str, port: int, master: int, quorum: int) -> None:
        config = self.directory / f"{port}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"logfile {self.directory}/{port}.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} 800\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        process = subprocess.Popen(
            [server_binary(server_kind), config, "--sentinel"],
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_pytest(),  # noqa: PLW1509
        )
        self._processes.append(process)


def free_ports(count: int) -> list[int]:
    """Return loopback ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()
