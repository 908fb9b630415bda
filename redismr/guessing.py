"""Which words are no secrets, because whoever tries the usual ones soon has them."""

from __future__ import annotations

import re
from itertools import pairwise

LEAST = 16
"""A secret has at least so many characters."""

_LEAST_DIFFERENT = 5
_LEAST_OWN = 6
_ROWS = ("12345678901", "01234567890", "abcdefghijklmnopqrstuvwxyza", "0123456789abcdef0",
         "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm")  # fmt: skip
_NEXT = frozenset(pair for row in _ROWS for way in (row, row[::-1]) for pair in pairwise(way))
_USUAL = re.compile(
    "password|passw0rd|passwort|passwd|passphrase|changeme|change|changeit|secret|s3cret|letmein"
    "|redismr|redis|valkey|mapreduce|mincemeat|worker|administrator|admin|root|user|default|master"
    "|welcome|qwerty|example|sample|dummy|placeholder|replace|insert|testing|test|demo|local|dev"
    "|production|shared|private|signing|token|super|really|please|your|this|with|here|long|enough"
    "|very|value|string|todo|key|not|the|foo|bar|baz"
)
_RUN = re.compile(r"(.)\1{2,}|0?12(?:3(?:4(?:5(?:6(?:7(?:8(?:90?)?)?)?)?)?)?)?|\b(?:19|20)\d\d\b")


def why_guessable(word: str, least: int = LEAST) -> str:
    """How others would come to this word, for a message that does not show it; empty if not so.

    Made to find what people type in a hurry, and never what ``redismr secret`` or another source
    of random characters gives.

    >>> why_guessable("changemechangeme")
    'is a few characters over and over'
    """
    if len(word) < least:
        return f"is shorter than {least} characters"
    if len(set(word)) < _LEAST_DIFFERENT:
        return "has next to no characters that differ"
    if _period(word) <= least // 2:
        return "is a few characters over and over"
    low = word.lower()
    steps = [pair in _NEXT for pair in pairwise(low)]
    if sum(steps) * 4 >= len(steps) * 3:
        return "is characters in their usual order"
    if len(re.sub(r"[\W_]", "", _RUN.sub("", _USUAL.sub(" ", low)))) < _LEAST_OWN:
        return "is made of words that everybody tries first"
    return ""


def _period(word: str) -> int:
    """After how many characters the word begins again; its length if it does not.

    >>> _period("abcabca"), _period("abcd")
    (3, 4)
    """
    return next(n for n in range(1, len(word) + 1) if word.startswith(word[n:]))
