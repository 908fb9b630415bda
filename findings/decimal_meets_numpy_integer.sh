#!/usr/bin/env bash
# Decimal == numpy integer raises TypeError; the other way round the two are equal.
#
# numpy 2.4.1 registers its integers as numbers.Integral, so the decimal module of CPython asks them for
# their numerator, expects a Python int, gets a numpy integer, and raises. So a dict that holds one of two
# keys that are equal and hash alike cannot be asked for the other, in one of the two orders.
# numpy floats, numpy bools and Fraction are compared without an error.
#
# Seen with CPython 3.11.7 and 3.13.0:
#   Decimal(1) == int64(1): TypeError: argument must be an integer
#   int64(1) == Decimal(1): True
#   {Decimal(1): ...}.get(int64(1)): TypeError: argument must be an integer
#   {int64(1): ...}.get(Decimal(1)): 'found'
# Source: Modules/_decimal/_decimal.c of CPython, numerator_as_decimal(); numpy/_core/numerictypes.py, _register_types().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import platform
from decimal import Decimal

import numpy as np


def outcome(question):
    try:
        return repr(question())
    except TypeError as error:
        return f"TypeError: {error}"


print(f"CPython {platform.python_version()}, numpy {np.__version__}")
found = {
    "Decimal(1) == int64(1)": outcome(lambda: Decimal(1) == np.int64(1)),
    "int64(1) == Decimal(1)": outcome(lambda: bool(np.int64(1) == Decimal(1))),
    "{Decimal(1): ...}.get(int64(1))": outcome(lambda: {Decimal(1): "found"}.get(np.int64(1))),
    "{int64(1): ...}.get(Decimal(1))": outcome(lambda: {np.int64(1): "found"}.get(Decimal(1))),
    "Decimal(1) == float64(1)": outcome(lambda: Decimal(1) == np.float64(1)),
    "hashes": outcome(lambda: hash(Decimal(1)) == hash(np.int64(1))),
}
for question, answer in found.items():
    print(f"{question}: {answer}")
refused = "TypeError: argument must be an integer"
wanted = [refused, "True", refused, "'found'", "True", "True"]
raise SystemExit(0 if list(found.values()) == wanted else "this has changed")
PYTHON
