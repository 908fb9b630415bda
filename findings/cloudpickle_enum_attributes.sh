#!/bin/bash
# cloudpickle 3.1.3: a member of an Enum that goes by value loses what the class's __init__ set.
#
# Behaviour: an Enum of __main__ is made again from its members' values alone, while it has no
# __init__ yet, and __init__ is added afterwards. The class loads without a word; the attributes
# that __init__ gave each member (the documentation's "Planet" example) are not there.
# Output seen: AttributeError: 'Planet' object has no attribute 'mass'
# Source: cloudpickle/cloudpickle.py, _make_skeleton_enum and _enum_getstate; docs.python.org,
# "Enum HOWTO", Planet.
set -euo pipefail
v="$(mktemp -d)/v"
python3 -m venv "$v"
"$v/bin/pip" install -q cloudpickle==3.1.3
"$v/bin/python" -c 'import cloudpickle; print("cloudpickle", cloudpickle.__version__)'
cat > "$v/planet.py" <<'PY'
import sys, cloudpickle
from enum import Enum

class Planet(Enum):
    EARTH = (5.9, 6.3)

    def __init__(self, mass, radius):
        self.mass, self.radius = mass, radius

assert Planet.EARTH.mass == 5.9
sys.stdout.buffer.write(cloudpickle.dumps(Planet))
PY
"$v/bin/python" "$v/planet.py" > "$v/pickle"
seen="$("$v/bin/python" - "$v/pickle" <<'PY'
import pickle, sys
planet = pickle.load(open(sys.argv[1], "rb"))
try:
    print(planet.EARTH.value, planet.EARTH.mass)
except AttributeError as error:
    print(f"AttributeError: {error}")
PY
)"
echo "$seen"
[ "$seen" = "AttributeError: 'Planet' object has no attribute 'mass'" ]
