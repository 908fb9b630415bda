"""Fixtures: a program packs in one process, a worker loads in another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import redismr.shipping

REPOSITORY = Path(redismr.shipping.__file__).parents[2]

SHIP = """
def ship(functions, params=None, data=None):
    import os, pickle
    from redismr.shipping import pack
    packed_code = pack(functions, params)
    with open(os.environ["PACKED_CODE"], "wb") as file:
        pickle.dump((packed_code.code, packed_code.params, pickle.dumps(data)), file)
"""

WORKER = """
import os, pickle, sys, traceback
from redismr.shipping import load_code
with open(os.environ["PACKED_CODE"], "rb") as file:
    code, packed_params, packed_data = pickle.load(file)
try:
    loaded = load_code(code, packed_params)
except Exception:
    sys.exit(traceback.format_exc())
f, params = loaded.functions, loaded.params
data = pickle.loads(packed_data)
exec(sys.argv[1])
"""


class RoundTrip:
    """A project folder to submit from; it is gone before the worker runs."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir(parents=True)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PACKED_CODE": str(folder / "packed_code"),
        }

    def write(self, **files: str) -> RoundTrip:
        """Write files by name; ``__`` in a name separates folder and file."""
        for name, text in files.items():
            path = self.project / (name.replace("__of__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self

    def submit(self, script: str, *argv: str, check: bool = True) -> str:
        """Run a script of the project; ``ship`` is defined in it."""
        self.write(wc=SHIP + script)
        argv = argv or (str(self.project / "wc.py"),)
        return self.run([sys.executable, *argv], cwd=self.project, check=check)

    def run_on_worker(self, statements: str, *, check: bool = True) -> str:
        """Return the output of the statements on a worker."""
        shutil.rmtree(self.project, ignore_errors=True)
        command = [sys.executable, "-c", WORKER, statements]
        return self.run(command, cwd=self.elsewhere, check=check)

    def run(self, command: list[str], *, cwd: Path, check: bool, stdin: str = "") -> str:
        completed = subprocess.run(
            command,
            cwd=cwd,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check:
            assert completed.returncode == 0, completed.stderr
            return completed.stdout.strip()
        assert completed.returncode != 0, completed.stdout
        return completed.stderr.strip()


@pytest.fixture
def round_trip(tmp_path: Path) -> RoundTrip:
    return RoundTrip(tmp_path)
