"""Ctrl-C on a command: one line and exit code 130, whenever it comes. Never a traceback.

While a command imports its modules and while its process ends, a KeyboardInterrupt would be shown
with frames of Python's own, or be lost in a callback. Nothing is under way then that would have to
be undone, so the process ends at once. In between it is an exception, as ever.

Imports nothing that is not there already when Python begins, not even ``__future__``: each ms of
this would be one in which an interrupt is met by nobody.
"""

import _signal  # type: ignore[import-not-found]
import os
import sys

EXIT_CODE = 130

_COMMAND = "redismr"
_RAISE_AGAIN_SECONDS = 0.01
_is_command_process = False
"""Whether this process is the command, and its interrupts are ours to answer."""

_printed = False


def exit_on_ctrl_c(*, is_command: bool = True) -> None:
    """From now on, and until ``raise_on_ctrl_c``, Ctrl-C ends the command at once.

    Where somebody ignores or handles it already that is left alone. ``is_command`` is False where
    the
    process may be another program, which imports us: how it was begun tells.
    """
    global _is_command_process  # noqa: PLW0603  a process has one handler
    if _is_command_process or not (is_command or _started_as_command()):
        return
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        try:
            _signal.signal(_signal.SIGINT, _exit_interrupted)
        except ValueError:  # not the main thread: no command
            return
        _is_command_process = True
    _signal.pthread_sigmask(
        _signal.SIG_UNBLOCK, {_signal.SIGINT}
    )  # ``block_ctrl_c`` may have blocked it


def raise_on_ctrl_c() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt, raised once more where a callback drops it."""
    if _is_command_process and _signal.getsignal(_signal.SIGINT) is _exit_interrupted:
        sys.unraisablehook = _raise_again_hook
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def exit_again_on_ctrl_c() -> None:
    """The command is at its end: another Ctrl-C waits for nothing any more."""
    if _is_command_process:
        _signal.signal(_signal.SIGINT, _exit_interrupted)


def block_ctrl_c() -> None:
    """Keep back a Ctrl-C until the program that is begun in our place has called ``exit_on_ctrl_c``."""  # noqa: E501
    if _is_command_process:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT})


def print_interrupted(left: str = "") -> None:
    """Say so, and what is ``left``, once and on a line of its own: a terminal has echoed ^C."""
    global _printed  # noqa: PLW0603
    if not _printed:
        _printed = True
        try:
            line = b"\n" if os.isatty(2) else b""
            message = f"redismr: interrupted{'; ' * bool(left)}{left}\n"
            os.write(2, line + message.encode(errors="replace"))
        except OSError:
            pass  # nobody reads it


def _started_as_command() -> bool:
    """Whether this process is ``redismr`` or ``python -m redismr``."""
    name, words = os.path.basename("".join(sys.argv[:1])), sys.orig_argv
    return name == _COMMAND or (name == "-m" and words[words.index("-m") + 1 :][:1] == [_COMMAND])


def _exit_interrupted(_number: int, _frame: object) -> None:
    print_interrupted()
    os._exit(EXIT_CODE)


def _raise_again_hook(what: "sys.UnraisableHookArgs") -> None:  # a type for type checkers only
    if not issubclass(what.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(what)
        return

    import _thread
    import time

    def interrupt_main_thread() -> None:  # not here: it would be lost once more
        time.sleep(_RAISE_AGAIN_SECONDS)
        _signal.pthread_kill(main, _signal.SIGINT)  # which also ends a sleep

    main = _thread.get_ident()  # no other thread meets a KeyboardInterrupt
    _thread.start_new_thread(interrupt_main_thread, ())
