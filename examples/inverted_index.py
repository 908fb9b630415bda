"""Find the places of each word, file and line, as the index of a book lists them.

``redismr run examples/inverted_index.py [FILE...]`` or ``python examples/inverted_index.py``
"""

import re
from pathlib import Path

import redismr

source = str(Path(__file__).parent / "data" / "*.txt")


def mapfn(path, text):
    for number, line in enumerate(text.splitlines(), start=1):
        for word in set(re.findall(r"[a-z']+", line.lower())):
            yield word, (Path(path).name, number)


def reducefn(word, places):
    return [f"{name}:{number}" for name, number in sorted(places)]


if __name__ == "__main__":
    for word, places in redismr.run(source, mapfn, reducefn).sorted():
        print(f"{word:12} {' '.join(places)}")
