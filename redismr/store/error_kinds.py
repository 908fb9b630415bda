"""Tells the kinds of errors of redis-py apart.

The kind is the first word of the server's error. This word is the same for a command alone, in a
pipeline, in a transaction and inside a script; redis-py's classes are not.
"""

import re
from typing import NamedTuple

import redis
from redis import exceptions

from redismr.errors import error_phrase

NO_ANSWER_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)
"""No answer at all: the server is down, or the connection was cut."""

_CLASS_WORDS: dict[type[exceptions.RedisError], str] = {
    exceptions.BusyLoadingError: "LOADING",
    exceptions.MasterDownError: "MASTERDOWN",  # before ClusterDownError, its base class
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}
"""redis-py removes the first word from the text of errors that have a class."""

TEMPORARY_WORDS = frozenset({
    "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY", "TRYAGAIN",
    "UNBLOCKED",
})  # fmt: skip
"""Answers of a server that starts, fails over, is out of disk, or runs a script of others."""

DEMOTED_WORDS = frozenset({"READONLY", "MASTERDOWN", "UNBLOCKED"})
"""Answers of a master that has become a replica: its connections lead to the wrong server."""

_UNREACHED_FORMS = (
    re.compile(r"Error -?\w+ connecting to .+?\. (?P<why>.+)"),
    re.compile(r"Error (?P<why>.+) connecting to .+"),
    re.compile(r"Error while reading from [^(]*\((?:-?\d+, )?['\"](?P<why>.+?)['\"],?\)"),
    re.compile(r"Error \S+ while writing to socket\. (?P<why>.+)"),
)
"""Texts of redis-py for an unreached server. Our own texts already name the address."""


def error_text(exc: Exception) -> str:
    """Return the text of an error of redis-py in one line, without an address or a full stop."""
    message = error_phrase(" ".join(str(exc).split()))
    found = next(filter(None, (form.fullmatch(message) for form in _UNREACHED_FORMS)), None)
    return found["why"] if found else message


_DENIED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")
"""Texts of Redis 7.0, and of later servers, in a script instead of NOPERM."""


class ErrorKind(NamedTuple):
    """What an error of redis-py means."""

    word: str  #: First word of the server's error; "" if it has none.
    message: str  #: The server's text, from which redis-py may have removed the word.

    @property
    def full_text(self) -> str:
        """The server's text with its first word."""
        return self.message if self.message.startswith(self.word) else f"{self.word} {self.message}"

    @property
    def is_altered(self) -> bool:
        """True if a command or a script met a key that does not hold what we put there."""
        return self.word == "WRONGTYPE" or ("user_script" in self.message and not self.word)


def error_kind(exc: Exception) -> ErrorKind:
    """Return the kind of an error, and its text."""
    message = error_text(exc)
    for wrapped in ("of pipeline caused error: ", "Transaction discarded because of: "):
        message = message.rpartition(wrapped)[2]
    for class_, word in _CLASS_WORDS.items():
        if isinstance(exc, class_):
            return ErrorKind(word, message)
    if any(words in message for words in _DENIED_IN_SCRIPT):
        return ErrorKind("NOPERM", message)
    first = message.partition(" ")[0]
    is_kind = len(first) > 2 and first.isalpha() and first.isupper() and first != "ERR"
    return ErrorKind(first if is_kind else "", message)
