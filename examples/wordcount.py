"""Count how often each word occurs in some texts.

``redismr run examples/wordcount.py [FILE...]`` or ``python examples/wordcount.py``
"""

import re
from pathlib import Path

import redismr

source = str(Path(__file__).parent / "data" / "*.txt")


def mapfn(path, text):
    for word in re.findall(r"[a-z']+", text.lower()):
        yield word, 1


reducefn = sum


if __name__ == "__main__":
    for word, times in redismr.run(source, mapfn, reducefn).top(10):
        print(f"{times:6} {word}")
