#!/usr/bin/env bash
# cloudpickle 3.1.3 (CPython 3.11.7): a memoryview comes back as bytes, without its layout and shape.
# Plain pickle refuses memoryviews. cloudpickle takes them, and gives the raw bytes on the other
# side, also of a view of ints or floats: sum() and indexing go on working, and mean something else.
# Output seen:
#   cloudpickle 3.1.3
#   before: memoryview sum 3000 first 1000
#   after:  bytes sum 450 first 232
# Source: cloudpickle/cloudpickle.py, _memoryview_reduce: ``return bytes, (obj.tobytes(),)``.
set -euo pipefail
venv="$(mktemp -d)/v"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check cloudpickle==3.1.3
seen="$("$venv/bin/python" - <<'PYTHON'
from array import array

import cloudpickle

view = memoryview(array("i", [1000, 2000]))
back = cloudpickle.loads(cloudpickle.dumps(view))
print("cloudpickle", cloudpickle.__version__)
print("before:", type(view).__name__, "sum", sum(view), "first", view[0])
print("after: ", type(back).__name__, "sum", sum(back), "first", back[0])
PYTHON
)"
echo "$seen"
test "$seen" = "cloudpickle 3.1.3
before: memoryview sum 3000 first 1000
after:  bytes sum 450 first 232"
