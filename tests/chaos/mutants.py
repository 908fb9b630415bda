"""``make mutants``: seeded bugs, each of which the short campaign of ``make test`` must catch.

A mutant is one or more replaced texts in a private copy of the tree. The rows of ``test_cut.py``
run there, at the scale and with the seed that ``make test`` uses, the likeliest first, until one
complains. A row that complains about the tree as it is proves nothing, so each is run on an
unchanged copy too. A wrong result is proof; anything else may be a busy machine's doing, so that
must happen twice.
Exits non-zero if a mutant survives, or if the text that it replaces is no longer there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import REPOSITORY

from chaos.__main__ import rows
from chaos.bugs import MUTANTS, Mutant
from chaos.test_cut import run


def copy_of(folder: Path, mutant: Mutant | None) -> Path:
    """Copy the tree and put the bug into it.

    Raises:
        LookupError: the text to replace is not there exactly once.
    """
    tree = folder / (mutant.name.replace(" ", "-") if mutant else "sound")
    ignored = shutil.ignore_patterns("__pycache__", ".*cache")
    for name in ("redismr", "tests"):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", tree)
    for edit in mutant.edits if mutant else ():
        path = tree / "redismr" / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise LookupError(f"{edit.file} has {text.count(edit.old)} times: {edit.old!r}")
        path.write_text(text.replace(edit.old, edit.new))
    return tree


def complaint(tree: Path, row: str) -> str:
    """Return a row's complaint: a wrong result, or a complaint that it repeats; else ""."""
    first, wrong = _first_complaint(tree, row)
    return first if wrong or not first else _first_complaint(tree, row)[0]


def _first_complaint(tree: Path, row: str) -> tuple[str, bool]:
    """Return a row's first complaint, and True if a result was wrong."""
    try:
        done = run(row, tree, TMPDIR=str(tree))
    except subprocess.TimeoutExpired as late:
        return f"not done after {late.timeout:g} s", False
    if done.returncode == 0:
        return "", False
    wrong = re.search(r"\| (\d+) wrong \|", done.stdout)
    complaints = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    complaints += done.stderr.strip().splitlines()[-1:] or ["no words"]
    return complaints[0], bool(wrong and int(wrong[1]))


class MutantHunt:
    """Runs mutants against the rows of the short campaign."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = list(rows())
        self.sound = copy_of(folder, None)
        self.verdicts: dict[str, str] = {}

    def trusted(self, row: str) -> bool:
        """True if the row has no complaint about the tree without bugs."""
        if row not in self.verdicts:
            self.verdicts[row] = complaint(self.sound, row)
            if self.verdicts[row]:
                print(f"row {row} complains without any bug: {self.verdicts[row]}", flush=True)
        return not self.verdicts[row]

    def caught(self, mutant: Mutant) -> str:
        """Return the row that caught the mutant, and its complaint; empty if none did."""
        tree = copy_of(self.folder, mutant)
        try:
            for row in (*mutant.first, *(name for name in self.names if name not in mutant.first)):
                found = complaint(tree, row)
                if found and self.trusted(row):
                    return f"{row}: {found}"
        finally:
            shutil.rmtree(tree, ignore_errors=True)
        return ""


def main() -> int:
    """Run the command."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)}")
    args = parser.parse_args()
    if unknown := set(args.names) - set(known):
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    folder, bad = Path(tempfile.mkdtemp(prefix="mut-", dir="/tmp")), 0
    try:
        hunt = MutantHunt(folder)
        for name in args.names or known:
            began = time.monotonic()
            try:
                caught_by = hunt.caught(known[name])
            except LookupError as error:
                verdict, caught_by = "**STALE**", str(error)
            else:
                verdict = "caught" if caught_by else "**SURVIVED**"
            bad += verdict != "caught"
            seconds = time.monotonic() - began
            print(f"| {name} | {verdict} | {seconds:.0f} s | {caught_by[:160]} |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(args.names or known) - bad} caught, {bad} not")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
