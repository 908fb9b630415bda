#!/usr/bin/env bash
# A class that cloudpickle sends by value arrives without its __qualname__; its methods keep theirs.
#
# The reduction of a class names it by __name__ only, and __qualname__ is no entry of a class's __dict__, so
# in another process "make.<locals>.Point" is called "Point", while Point.where is still called
# "make.<locals>.Point.where". Functions keep the qualified name. Whoever
# derives a name, a key or a hash from __qualname__ gets two answers for one class.
#
# Seen with cloudpickle 3.1.2 on CPython 3.11.7:
#   here:  Point class make.<locals>.Point method make.<locals>.Point.where
#   there: Point class Point method make.<locals>.Point.where
# Source: cloudpickle/cloudpickle.py, _class_getnewargs() and _class_getstate().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cloudpickle==3.1.2
"$folder/venv/bin/python" - <<'PYTHON'
import platform
import subprocess
import sys

import cloudpickle


def make():
    class Point:
        def where(self):
            return "here"

    return Point


def names(kind):
    return f"{kind.__name__} class {kind.__qualname__} method {kind.where.__qualname__}"


Point = make()
code = (
    "import pickle, sys; kind, names = pickle.load(sys.stdin.buffer); print(names(kind), end='')"
)
there = subprocess.run(
    [sys.executable, "-c", code], input=cloudpickle.dumps((Point, names)), capture_output=True, check=True
).stdout.decode()
print(f"cloudpickle {cloudpickle.__version__} on CPython {platform.python_version()}")
print("here: ", names(Point))
print("there:", there)
assert names(Point) == "Point class make.<locals>.Point method make.<locals>.Point.where"
assert there == "Point class Point method make.<locals>.Point.where"
PYTHON
