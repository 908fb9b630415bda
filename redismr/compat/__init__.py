"""The interfaces of mincemeat.py, its forks, octo.py and shepherd.py, so that their scripts run.

``from redismr.compat import mincemeat`` in place of ``import mincemeat`` is the whole port of a
script. This room is not thin: about 3,000 lines, 10 % of the source. It schedules nothing: a server
submits jobs with ``redismr.run``, and a client starts a worker process. ``doorway`` brings what the
other modules need of the inside of redismr.
"""
