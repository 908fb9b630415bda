"""Find the lines that match a pattern, with their places. Map only: nothing is reduced.

``redismr run examples/grep.py [FILE...]`` or ``python examples/grep.py [PATTERN]``
"""

import re
import sys
from pathlib import Path

import redismr

source = redismr.lines(str(Path(__file__).parent / "data" / "*.txt"))
params = {"pattern": "boats?"}


def mapfn(where, line):
    if re.search(redismr.param("pattern"), line):
        yield f"{where}:{where.line}", line


if __name__ == "__main__":
    params["pattern"] = sys.argv[1] if len(sys.argv) > 1 else params["pattern"]
    for where, lines in redismr.run(source, mapfn, params=params).sorted():
        print(f"{where}: {lines[0]}")
