"""Builds the C extension with gcc's sanitizers, and runs its tests and ``fuzz.py`` under them.

Everything happens in a copy of the package in a temporary folder. Exits with 0 only if no sanitizer
reported anything and nothing failed. Leaks: references and blocks of memory are counted by
``test_references.py``; the leak sanitizer's report is searched for allocations of the extension,
as Python leaves many of its own behind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "redismr/native/totals.c"
FLAGS = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer",
         "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-shared", "-fPIC",
         "-Wno-missing-field-initializers", "-Wno-cast-function-type",
         "-DPy_LIMITED_API=0x030b0000"]  # fmt: skip
CHECK = "from redismr.native import totals; print(totals.__file__)"


def build(folder, compiler):
    """Copy the package into the folder, and build the extension there; return its file."""
    shutil.copytree(ROOT / "redismr", folder / "redismr", ignore=shutil.ignore_patterns("*.so"))
    library = folder / "redismr/native/_totals.abi3.so"
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run([compiler, *FLAGS, include, str(SOURCE), "-o", str(library)], check=True)
    return library


def environment(folder, compiler):
    found = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    )
    return os.environ | {
        "LD_PRELOAD": found.stdout.strip(),
        "PYTHONPATH": str(folder),
        "PYTHONSAFEPATH": "1",  # the package of this folder must not be found
        "PYTHONMALLOC": "malloc",
        # A number of partitions may ask for more memory than there is.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def leaks_of_the_extension(env):
    """Return the report of the leak sanitizer if the extension allocated what was lost."""
    fuzz = [
        sys.executable,
        str(Path(__file__).parent / "fuzz.py"),
        "--inputs",
        "20000",
        "--records",
        "1000",
    ]
    options = env["ASAN_OPTIONS"].replace(
        "detect_leaks=0", "detect_leaks=1:fast_unwind_on_malloc=0"
    )
    done = subprocess.run(fuzz, env=env | {"ASAN_OPTIONS": options}, capture_output=True, text=True)
    report = done.stdout + done.stderr
    assert "records left no reference" in report, report
    return [leak for leak in report.split("\n\n") if "leak of" in leak and "totals.c" in leak]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", default="10000000", help="frames for fuzz.py")
    parser.add_argument("--seed", default=None, help="seed of fuzz.py")
    options = parser.parse_args()
    compiler = os.environ.get("CC", "gcc")
    with tempfile.TemporaryDirectory() as name:
        library, env = build(Path(name), compiler), environment(Path(name), compiler)
        python = [sys.executable]
        loaded = subprocess.run([*python, "-c", CHECK], env=env, capture_output=True, text=True)
        assert loaded.stdout.strip() == str(library), loaded.stdout + loaded.stderr
        pytest = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/native"]
        subprocess.run(pytest, env=env, cwd=ROOT, check=True)
        assert leaks_of_the_extension(env) == []
        fuzz = [*python, str(ROOT / "tests/native/fuzz.py"), "--inputs", options.inputs]
        seed = ["--seed", options.seed] if options.seed else []
        subprocess.run([*fuzz, *seed], env=env, check=True)
    print("no sanitizer reported anything")


if __name__ == "__main__":
    main()
