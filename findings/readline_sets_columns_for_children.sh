#!/usr/bin/env bash
# A program that has imported readline gives its children a terminal of 80 columns.
# Versions: gnureadline 8.3.3 (GNU readline 8.3), rich 15.0.0, Python 3.11 (its own readline, where
#   that is GNU's, does the same).
# Behaviour: the import writes COLUMNS and LINES into the process's C environment. os.environ does
#   not show them, and subprocess without env= hands them on. A child on a terminal of 132 columns
#   that asks rich, or shutil.get_terminal_size, is told 80: both believe COLUMNS before the terminal.
# Output seen: the last lines of this file.
# Source: run on Linux x86_64, Python 3.11, 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install -q gnureadline==8.3.3 rich==15.0.0
env -u COLUMNS -u LINES "$folder/v/bin/python" - <<'PY'
import fcntl, importlib.metadata, os, pty, struct, subprocess, sys, termios

CHILD = "from rich.console import Console; print(Console().width)"


def width_in_child():
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 132, 0, 0))
    subprocess.run([sys.executable, "-c", CHILD], stdin=its, stdout=its, stderr=its, check=True)
    width = int(os.read(ours, 100).split()[0])
    os.close(ours)
    os.close(its)
    return width


print(*(f"{name} {importlib.metadata.version(name)}" for name in ("gnureadline", "rich")))
before = width_in_child()
import gnureadline

after = width_in_child()
print("before:", before, "after:", after, "os.environ:", os.environ.get("COLUMNS"))
assert (before, after, os.environ.get("COLUMNS")) == (132, 80, None)
PY
# gnureadline 8.3.3 rich 15.0.0
# before: 132 after: 80 os.environ: None
