#!/usr/bin/env bash
# A wheel whose optional extension could not be compiled has the same name as one that has it; and
# an extension for the stable ABI alone does not make a wheel for it.
# Versions: setuptools 84.2.1, wheel 0.48.0, pip as ensurepip brings it.
# Behaviour: pyproject.toml has an extension with optional = true and py-limited-api = true. (1) It is
#   built as c.abi3.so, into a wheel tagged cp311-cp311: other Pythons do not take it until
#   [tool.distutils.bdist_wheel] says py-limited-api, too. (2) With a compiler that fails, the build
#   succeeds, and the wheel, without any compiled file, is tagged for this platform and ABI all the
#   same. A cache of wheels keeps serving it when there is a compiler: `--no-cache-dir` builds anew.
# Output seen: the last lines of this file.
# Source: run on Linux x86_64, Python 3.11, 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install -q setuptools==84.2.1 wheel==0.48.0
mkdir -p p/pk
touch p/pk/__init__.py
cat >p/pk/c.c <<'C'
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "c", NULL, 0, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_c(void) { return PyModuleDef_Init(&def); }
C
cat >p/pyproject.toml <<'TOML'
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "pk"
version = "1"
[tool.setuptools]
packages = ["pk"]
[[tool.setuptools.ext-modules]]
name = "pk.c"
sources = ["pk/c.c"]
py-limited-api = true
optional = true
TOML
build() { # prints the tags of the wheel, and whether the compiled file is in it
    rm -rf w p/build p/*.egg-info
    env "$@" v/bin/pip wheel -q --no-build-isolation --no-deps --wheel-dir w ./p 2>/dev/null
    v/bin/python - w/*.whl <<'PY'
import sys, zipfile
names = zipfile.ZipFile(sys.argv[1]).namelist()
tags = sys.argv[1].removesuffix(".whl").split("-")[2:]
print(*tags[:2], "on a platform" if tags[2] != "any" else "anywhere", "pk/c.abi3.so" in names)
PY
}
python=$(v/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
one=$(build CC=cc)
printf '[tool.distutils.bdist_wheel]\npy-limited-api = "cp311"\n' >>p/pyproject.toml
two=$(build CC=cc)
three=$(build CC=false)
printf '%s\n' "$one" "$two" "$three"
[ "$one" = "$python $python on a platform True" ]
[ "$two" = "cp311 abi3 on a platform True" ]
[ "$three" = "cp311 abi3 on a platform False" ]
# cp311 cp311 on a platform True
# cp311 abi3 on a platform True
# cp311 abi3 on a platform False
