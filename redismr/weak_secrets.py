"""Recognise weak secrets: words that an attacker tries first."""

import re
from itertools import pairwise

MIN_SECRET_LENGTH = 16
"""Least number of characters of a secret."""

_MIN_DISTINCT_CHARACTERS = 5
_MIN_UNCOMMON_CHARACTERS = 6
_CHARACTER_SEQUENCES = ("12345678901", "01234567890", "abcdefghijklmnopqrstuvwxyza", "0123456789abcdef0",  # noqa: E501
         "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm")  # fmt: skip
_ADJACENT_PAIRS = frozenset(
    pair for row in _CHARACTER_SEQUENCES for way in (row, row[::-1]) for pair in pairwise(way)
)
_COMMON_WORDS = re.compile(
    "password|passw0rd|passwort|passwd|passphrase|changeme|change|changeit|secret|s3cret|letmein"
    "|redismr|redis|valkey|mapreduce|mincemeat|worker|administrator|admin|root|user|default|master"
    "|welcome|qwerty|example|sample|dummy|placeholder|replace|insert|testing|test|demo|local|dev"
    "|production|shared|private|signing|token|super|really|please|your|this|with|here|long|enough"
    "|very|value|string|todo|key|not|the|foo|bar|baz"
)
_COMMON_RUNS = re.compile(
    r"(.)\1{2,}|0?12(?:3(?:4(?:5(?:6(?:7(?:8(?:90?)?)?)?)?)?)?)?|\b(?:19|20)\d\d\b"
)


def weakness_of(word: str, min_length: int = MIN_SECRET_LENGTH) -> str:
    """Return why a word can be guessed, as the end of a sentence; "" if it cannot.

    The text does not show the word. The check finds words that people type in a hurry, and never
    refuses random characters such as those of ``redismr secret``.

    >>> weakness_of("changemechangeme")
    'is a few characters over and over'
    """
    if len(word) < min_length:
        return f"is shorter than {min_length} characters"
    if len(set(word)) < _MIN_DISTINCT_CHARACTERS:
        return "has next to no characters that differ"
    if _period(word) <= min_length // 2:
        return "is a few characters over and over"
    low = word.lower()
    steps = [pair in _ADJACENT_PAIRS for pair in pairwise(low)]
    if sum(steps) * 4 >= len(steps) * 3:
        return "is characters in their usual order"
    uncommon = re.sub(r"[\W_]", "", _COMMON_RUNS.sub("", _COMMON_WORDS.sub(" ", low)))
    if len(uncommon) < _MIN_UNCOMMON_CHARACTERS:
        return "is made of words that everybody tries first"
    return ""


def _period(word: str) -> int:
    """Return after how many characters the word repeats itself; its length if it does not.

    >>> _period("abcabca"), _period("abcd")
    (3, 4)
    """
    return next(n for n in range(1, len(word) + 1) if word.startswith(word[n:]))
