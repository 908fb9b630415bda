"""Answer Ctrl-C on a command with one line and exit code 130 at any time, never a traceback.

While a command imports its modules, and while its process ends, Python would show a
KeyboardInterrupt with frames of its own, or lose it in a callback. At those times nothing has to be
undone, so the process ends at once. In between, Ctrl-C raises a KeyboardInterrupt as usual.

This module imports only what Python has already loaded when it starts, not even ``__future__``:
until its handler is installed, nothing answers Ctrl-C, so each ms counts.
"""

import _signal  # type: ignore[import-not-found]
import os
import sys

EXIT_CODE = 130

_COMMAND = "redismr"
_is_command_process = False  # then redismr answers the interrupts of this process
_printed = False


def exit_on_ctrl_c(*, is_command: bool = True) -> None:
    """Make Ctrl-C end the command at once, until ``raise_on_ctrl_c`` is called.

    A signal handler that is already set, or an ignored signal, stays. With ``is_command=False``
    the process may be any program that imports redismr; then its command line decides.
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
    # the program before this one may have called ``block_ctrl_c``
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {_signal.SIGINT})


def raise_on_ctrl_c() -> None:
    """Make Ctrl-C raise a KeyboardInterrupt, and raise it again if a callback loses it."""
    if _is_command_process and _signal.getsignal(_signal.SIGINT) is _exit_interrupted:
        sys.unraisablehook = _raise_again_hook
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def exit_again_on_ctrl_c() -> None:
    """Make Ctrl-C end the process at once again, because the command is at its end."""
    if _is_command_process:
        _signal.signal(_signal.SIGINT, _exit_interrupted)


def block_ctrl_c() -> None:
    """Hold back Ctrl-C until the program that replaces this one calls ``exit_on_ctrl_c``."""
    if _is_command_process:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT})


def print_interrupted(left: str = "") -> None:
    """Print once that the command was interrupted, and what is ``left`` behind.

    On a terminal the text begins on a new line, because the terminal has echoed ^C.
    """
    global _printed  # noqa: PLW0603
    if not _printed:
        _printed = True
        try:
            line = b"\n" if os.isatty(2) else b""
            message = f"redismr: interrupted{'; ' * bool(left)}{left}\n"
            os.write(2, line + message.encode(errors="replace"))
        except OSError:
            pass  # standard error has no reader


def _started_as_command() -> bool:
    """True if this process is ``redismr`` or ``python -m redismr``."""
    name, words = os.path.basename("".join(sys.argv[:1])), sys.orig_argv
    return name == _COMMAND or (name == "-m" and words[words.index("-m") + 1 :][:1] == [_COMMAND])


def _exit_interrupted(_number: int, _frame: object) -> None:
    print_interrupted()
    os._exit(EXIT_CODE)


def _raise_again_hook(unraisable: "sys.UnraisableHookArgs") -> None:
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return

    import _thread
    import time

    def interrupt_main_thread() -> None:  # later: raised within this hook, it would be lost again
        time.sleep(0.01)
        _signal.pthread_kill(main, _signal.SIGINT)  # also ends a sleep of that thread

    main = _thread.get_ident()  # Python raises KeyboardInterrupt in the main thread only
    _thread.start_new_thread(interrupt_main_thread, ())
