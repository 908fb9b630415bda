"""The ancestors' words, so that their scripts keep working: thin, on the public interface.

``from redismr.compat import mincemeat`` in place of ``import mincemeat`` is the whole port.
"""
