"""The interfaces of mincemeat.py, its forks, octo.py and shepherd.py, so that their scripts run.

``from redismr.compat import mincemeat`` in place of ``import mincemeat`` is the whole port of a
script. A server submits jobs with ``redismr.run``, and a client starts a worker process.
"""
