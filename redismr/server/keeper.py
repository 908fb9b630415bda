"""The keeper: a process that owns one server, and ends the server when the parent process ends.

Run as a file, ``python -I -S keeper.py BINARY DIRECTORY``, in a session of its own, so that Ctrl-C
does not reach it. Standard input is a pipe from the parent: the server's configuration up to a NUL
byte, then nothing. End of file means that the parent closed the pipe or died, by kill -9 too, on
every platform. Then the keeper ends the server, removes DIRECTORY, and writes the end of the
server's output to standard output. It does the same when the server ends by itself.

The keeper imports neither redismr nor redis, and nothing that is slow to import. Measured on two
cores: 8 ms until the server is started; ``import subprocess`` would add 13 ms, ``signal`` 5,
``shutil`` 9. So there is no dataclass here, and ``end_with_keeper`` is not shared with the fork
server of ``workers``, which sends another signal as well.
"""

# Imports are as few and as late as possible.
# ruff: noqa: SIM105

import os
import select
import sys
import time

OUTPUT_TAIL_BYTES = 8192
STOP_GRACE_SECONDS = 3.0
SIGTERM, SIGKILL = 15, 9


def main(binary: str, directory: str) -> None:
    """Keep the server until end of file on standard input, or until the server ends by itself."""
    try:
        server = KeptServer(binary, read_config())
        try:
            exit_on_sigterm()
            server.drain_until_end()
        finally:
            code = server.stop()
    finally:
        remove_directory(directory)
    try:
        os.write(1, server.output_tail + f"exit code {code}\n".encode())
    except OSError:  # The parent is dead.
        pass


def read_config() -> bytes:
    """Return what the parent wrote before the NUL byte."""
    config = b""
    while not config.endswith(b"\0"):
        piece = os.read(0, 65536)
        if not piece:
            raise SystemExit  # The parent died before it had written all.
        config += piece
    return config[:-1]


class KeptServer:
    """The server process, with the read end of its output."""

    def __init__(self, binary: str, config: bytes) -> None:
        # over a pipe: the passwords in it must show neither in ``ps`` nor in a file
        config_out, config_in = os.pipe()
        self.output, output_in = os.pipe()
        self.output_tail, self.closed_output = b"", False
        keeper = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for source, target in ((config_out, 0), (output_in, 1), (output_in, 2)):
                    os.dup2(source, target)
                end_with_keeper(keeper)
                os.execv(binary, [binary, "-"])  # noqa: S606 - as meant
            except BaseException as exc:  # noqa: BLE001 - a fork must not go on as the keeper
                os.write(2, f"cannot run {binary}: {exc}\n".encode())
            finally:
                os._exit(127)
        os.close(config_out)
        os.close(output_in)
        try:
            os.write(config_in, config)  # Fits in a pipe (at least 4 KB), so this cannot block.
        except BrokenPipeError:  # The server ended at once: drain_until_end() sees that.
            pass
        os.close(config_in)

    def drain_until_end(self) -> None:
        """Read the output until the server closes it, or the parent closes standard input."""
        while True:
            readable, _, _ = select.select([0, self.output], [], [])
            if self.output in readable:
                piece = os.read(self.output, 65536)
                if not piece:
                    self.closed_output = True
                    return
                self.output_tail = (self.output_tail + piece)[-OUTPUT_TAIL_BYTES:]
            elif not os.read(0, 4096):
                return

    def stop(self) -> int:
        """Send SIGTERM, wait, then send SIGKILL; return the exit code, negative for a signal."""
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        if not self.closed_output:  # else it is ending, and SIGTERM would change its exit code
            os.kill(self.pid, SIGTERM)  # Not waited for yet, so the id cannot be another's.
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(self.pid, SIGKILL)
            time.sleep(0.002)


def end_with_keeper(keeper: int) -> None:
    """Have the kernel end this process when the keeper is killed (Linux only)."""
    if sys.platform != "linux":
        return
    import ctypes  # 3 ms, and the keeper itself has no use for it.

    ctypes.CDLL(None).prctl(1, SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != keeper:  # Killed before the call.
        os._exit(1)


def exit_on_sigterm() -> None:
    """Make SIGTERM end the server too, not only the keeper."""
    import signal  # Slow to import: done while the server is starting.

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())


def remove_directory(directory: str) -> None:
    """Remove the directory, which holds only files."""
    try:
        for entry in os.listdir(directory):
            os.unlink(os.path.join(directory, entry))
        os.rmdir(directory)
    except OSError:  # Another process was faster, or put something there that is not ours.
        pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
