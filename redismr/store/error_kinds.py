"""What kind of trouble an error of redis-py is.

Errors are told apart by the server's own first word, because that is the same for a command alone,
in a pipeline, in a transaction and inside a script, while redis-py's classes are not.
"""

from __future__ import annotations

import re

import redis
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from redismr.errors import error_phrase

NO_ANSWER_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)
"""No answer at all: the server is down, or the line was cut."""

_CLASS_WORDS: dict[type[RedisError], str] = {
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",  # before its parent
    ClusterDownError: "CLUSTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}
"""redis-py takes the first word from the text of those that have a class."""

TEMPORARY_WORDS = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)
"""Answers of a server that is starting, failing over, out of disk, or in somebody's script."""

DEMOTED_WORDS = frozenset({"READONLY", "MASTERDOWN", "UNBLOCKED"})
"""What a master says that has become a replica: its connections lead to the wrong server."""


_UNREACHED_FORMS = (
    re.compile(r"Error -?\w+ connecting to .+?\. (?P<why>.+)"),
    re.compile(r"Error (?P<why>.+) connecting to .+"),
    re.compile(r"Error while reading from [^(]*\((?:-?\d+, )?['\"](?P<why>.+?)['\"],?\)"),
    re.compile(r"Error \S+ while writing to socket\. (?P<why>.+)"),
)
"""How redis-py says that a server was not reached: its address stands in our own texts."""


def error_text(exc: Exception) -> str:
    """What an error of redis-py says, in one line, without an address or a full stop."""
    message = error_phrase(" ".join(str(exc).split()))
    found = next(filter(None, (form.fullmatch(message) for form in _UNREACHED_FORMS)), None)
    return found["why"] if found else message


_DENIED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")
"""What Redis 7.0, and later servers, say in a script instead of NOPERM."""


def error_kind(exc: Exception) -> tuple[str, str]:
    """The first word of the server's error if it is one of a kind ("" if not), and its text."""
    message = error_text(exc)
    for wrapped in ("of pipeline caused error: ", "Transaction discarded because of: "):
        message = message.rpartition(wrapped)[2]
    for class_, word in _CLASS_WORDS.items():
        if isinstance(exc, class_):
            return word, message
    if any(words in message for words in _DENIED_IN_SCRIPT):
        return "NOPERM", message
    first = message.partition(" ")[0]
    kind = len(first) > 2 and first.isalpha() and first.isupper() and first != "ERR"
    return (first if kind else ""), message


def with_first_word(word: str, message: str) -> str:
    """The server's text with its first word, which redis-py may have taken from it."""
    return message if message.startswith(word) else f"{word} {message}"


def is_altered(word: str, message: str) -> bool:
    """Whether a command or a script met a key that does not hold what we put there."""
    return word == "WRONGTYPE" or ("user_script" in message and not word)
