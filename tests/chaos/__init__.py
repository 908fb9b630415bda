"""The campaign: faults of every kind against real servers and workers, and every result checked.

``make chaos`` runs all of it, ``python -m chaos ROW... --seed N --scale F`` (from ``tests/``) some.
"""
