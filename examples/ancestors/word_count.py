"""The example of mincemeat.py, with another import and a parenthesis or two.

``python examples/ancestors/word_count.py``, and anywhere ``redismr mincemeat -p changeme HOST``
"""

from redismr.compat import mincemeat

data = [
    "Humpty Dumpty sat on a wall",
    "Humpty Dumpty had a great fall",
    "All the King's horses and all the King's men",
    "Couldn't put Humpty together again",
]


def mapfn(k, v):
    for w in v.split():
        yield w, 1


def reducefn(k, vs):
    return sum(vs)


s = mincemeat.Server()
s.datasource = dict(enumerate(data))  # anything like a dictionary will do
s.mapfn = mapfn
s.reducefn = reducefn

results = s.run_server(password="changeme")
print(results)
