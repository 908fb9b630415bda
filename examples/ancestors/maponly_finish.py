"""Count words without a reduce phase: workers add up what they map, and the server the rest.

``python examples/ancestors/maponly_finish.py``, and anywhere ``redismr mincemeat -p changeme HOST``
"""

from table import print_table
from texts import Texts, total, words

from redismr.compat import mincemeat

s = mincemeat.Server()
s.datasource = Texts("*.txt")
s.mapfn = words
s.collectfn = total
s.finishfn = total

print_table(s.run_server(password="changeme"))
