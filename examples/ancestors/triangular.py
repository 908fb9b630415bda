"""The first 100 triangular numbers: a job file of octo.py.

``redismr octo server examples/ancestors/triangular.py``, and anywhere ``redismr octo client HOST``;
or all at once, ``redismr run examples/ancestors/triangular.py``
"""

source = dict(zip(range(100), range(100), strict=True))


def mapfn(key, value):
    for i in range(value + 1):
        yield key, i


def reducefn(key, values):
    return sum(values)


def final(key, value):
    print(key, value)
