"""Owns one server process: starts it, and ends it when the process that wanted it is gone.

Run as a file, ``python -I -S keeper.py BINARY DIRECTORY``, in a session of its own so that Ctrl-C
does not reach it. Standard input is a pipe from the parent: the server's configuration up to a NUL
byte, then silence. End of file means that the parent closed it or died, by kill -9 too, on every
platform; then the server is ended, DIRECTORY is removed and the server's last words go to
standard output. The same happens when the server ends by itself.

It imports neither redismr nor redis, and nothing that is slow to import: measured on two cores,
8 ms until the server is started; ``import subprocess`` would add 13 ms, ``signal`` 5, ``shutil`` 9.
"""

# It imports as little as it can, as late as it can.
# ruff: noqa: SIM105

from __future__ import annotations

import os
import select
import sys
import time

OUTPUT_TAIL_BYTES = 8192
STOP_GRACE_SECONDS = 3.0
SIGTERM, SIGKILL = 15, 9
PR_SET_PDEATHSIG = 1


def main(binary: str, directory: str) -> None:
    """Keep the server until end of file on standard input, or until it ends by itself."""
    output_tail, ended = b"", False
    try:
        pid, output = start_server(binary, read_config())
        try:
            exit_on_sigterm()
            output_tail, ended = drain_until_end(output)
        finally:
            code = stop_server(pid, send_sigterm=not ended)
    finally:
        remove_directory(directory)
    try:
        os.write(1, output_tail + f"exit code {code}\n".encode())
    except OSError:  # The parent is dead.
        pass


def read_config() -> bytes:
    """What the parent wrote before the NUL byte."""
    config = b""
    while not config.endswith(b"\0"):
        piece = os.read(0, 65536)
        if not piece:
            raise SystemExit  # The parent died before it had asked for anything.
        config += piece
    return config[:-1]


def start_server(binary: str, config: bytes) -> tuple[int, int]:
    """The server's process id, and the read end of its output.

    The configuration goes over a pipe: passwords must show neither in ``ps`` nor in a file.
    """
    config_out, config_in = os.pipe()
    output, output_in = os.pipe()
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            for source, target in ((config_out, 0), (output_in, 1), (output_in, 2)):
                os.dup2(source, target)
            die_with_keeper(keeper)
            os.execv(binary, [binary, "-"])  # noqa: S606 - as meant
        except BaseException as exc:  # noqa: BLE001 - a fork must not go on as the keeper
            os.write(2, f"cannot run {binary}: {exc}\n".encode())
        finally:
            os._exit(127)
    os.close(config_out)
    os.close(output_in)
    try:
        os.write(config_in, config)  # Fits in a pipe (at least 4 KB), so this cannot block.
    except BrokenPipeError:  # It ended at once: drain_until_end() will see that.
        pass
    os.close(config_in)
    return pid, output


def die_with_keeper(keeper: int) -> None:
    """End this process when the keeper is killed, where the platform can do that (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes  # 3 ms, and the keeper itself has no use for it.

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0)
    if os.getppid() != keeper:  # Killed before the call.
        os._exit(1)


def exit_on_sigterm() -> None:
    """Make SIGTERM end the server too, not only the keeper."""
    import signal  # Slow to import: done while the server is starting.

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())


def drain_until_end(output: int) -> tuple[bytes, bool]:
    """Drain the output until server or parent ends; its last words, and was it the server?"""
    output_tail = b""
    while True:
        readable, _, _ = select.select([0, output], [], [])
        if output in readable:
            piece = os.read(output, 65536)
            if not piece:
                return output_tail, True
            output_tail = (output_tail + piece)[-OUTPUT_TAIL_BYTES:]
        elif not os.read(0, 4096):
            return output_tail, False


def stop_server(pid: int, *, send_sigterm: bool) -> int:
    """Ask the server to end, wait, and insist; its exit code, negative for a signal.

    One that has closed its output is ending already: a signal would only replace its exit code.
    """
    deadline = time.monotonic() + STOP_GRACE_SECONDS
    if send_sigterm:
        os.kill(pid, SIGTERM)  # Not waited for yet, so the id is still its own, dead or alive.
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, SIGKILL)
        time.sleep(0.002)


def remove_directory(directory: str) -> None:
    """Remove the directory, which holds only files."""
    try:
        for entry in os.listdir(directory):
            os.unlink(os.path.join(directory, entry))
        os.rmdir(directory)
    except OSError:  # Somebody was faster, or put something there: not ours to remove.
        pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
