"""Estimate pi by throwing darts: the only input are numbers, each the seed of some darts.

``redismr run examples/pi.py`` or ``python examples/pi.py``
"""

import random

import redismr

DARTS = 20_000
source = range(100)


def mapfn(seed):
    rng = random.Random(seed)
    yield "thrown", DARTS
    yield "inside", sum(rng.random() ** 2 + rng.random() ** 2 < 1 for _ in range(DARTS))


reducefn = sum


def finishfn(results):
    return 4 * results["inside"] / results["thrown"]


if __name__ == "__main__":
    print(redismr.run(source, mapfn, reducefn, finishfn=finishfn))
