"""Keep secrets and server passwords in this process.

A person who may only read Redis must not learn how to sign code, or how to log in. So this process
remembers every secret and password that it is given (here: the words), and searches for them in
all data that it writes to Redis. Words that an attacker tries first are refused as secrets.
"""

import base64
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, NoReturn
from urllib.parse import parse_qsl, quote, unquote

from redismr.errors import CodeError

MIN_SECRET_LENGTH = 16
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

REDACTED = "***"

SECRET_REMEDY = (
    "Whoever may read Redis could read it there. Read it where it is used, from a file or a "  # noqa: S105  a text about secrets
    "variable of your own, and keep it out of what is sent"
)

_MAX_WORDS = 64  # the latest ones: a process may start servers all day
_MIN_MIXED_LENGTH, _NAME_LIKE_LENGTH = 8, 5
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_URL_PASSWORD = re.compile(r"\w[\w+.-]*://[^:@/?#]*:(.*)@", re.DOTALL)

#: Word -> the forms to search for; no forms if the word is easily guessed. The latest word is last.
_forms_by_word: dict[str, tuple[bytes, ...]] = {}
_private_words: set[str] = set()  #: Those that only a private server of this user knows.
_bulk_forms: tuple[bytes, ...] = ()  #: The plain forms of the words that are not private.
_all_forms: tuple[bytes, ...] = ()


class NotSendable(TypeError):
    """An object must stay in this process: ``what``, the subject of the sentence ``why``."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what} {why}. {remedy}.")
        self.why, self.remedy = why, remedy


class Unpicklable:
    """Base of classes that hold a secret or a connection: they refuse to be pickled, by name."""

    __slots__ = ()
    _display_name: ClassVar[str] = ""

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise NotSendable(
            self._display_name or f"a {type(self).__name__}",
            "holds a secret or a connection to a server, and stays in the process that made it",
            "Send the data that you got from it, or make another one there, with a URL and a "
            "secret that are read there (from a file, or from variables of your own)",
        )


class WithheldSecret:
    """Stands on a worker for a literal that stayed with the submitter. Every use raises an error.

    Truth and type of the literal may be read: they are known, and modules ask while they load.
    """

    __slots__ = ("_line", "_module", "_type")

    def __init__(self, module: str, line: int, literal_type: type = str) -> None:
        self._module, self._line, self._type = module, line, literal_type

    def __repr__(self) -> str:
        return f"<a secret of line {self._line} of {self._module}, which stayed with the submitter>"

    def __bool__(self) -> bool:
        return True

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The type of the literal, so that ``isinstance`` works."""
        return self._type

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise CodeError(
            f"line {self._line} of the module {self._module} holds a secret, or the password of a "
            f"server, which stayed with the submitter. {SECRET_REMEDY}."
        )

    __getattr__ = __str__ = __format__ = __bytes__ = __hash__ = __eq__ = __ne__ = _refuse
    __len__ = __iter__ = __contains__ = __getitem__ = __index__ = __int__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __mod__ = __rmod__ = __call__ = __fspath__ = __reduce_ex__ = _refuse


def remember_secrets(*words: str, private: bool = False) -> None:
    """Remember secrets and passwords.

    ``private`` words are random and belong to a server that only this user can reach. Data cannot
    hold them by chance, and nobody else reads that server, so bulk data is not searched for them.
    """
    global _bulk_forms, _all_forms  # noqa: PLW0603  made from the words
    for word in filter(None, words):
        forms = _forms_by_word.pop(word, None)
        if not private:
            _private_words.discard(word)
        elif forms is None:
            _private_words.add(word)
        _forms_by_word[word] = _encoded_forms(word) if forms is None else forms
    for word in list(_forms_by_word)[:-_MAX_WORDS]:
        _forms_by_word.pop(word, None)
        _private_words.discard(word)
    strong = {word: forms for word, forms in list(_forms_by_word.items()) if forms}
    _bulk_forms = tuple(forms[0] for word, forms in strong.items() if word not in _private_words)
    _all_forms = tuple(dict.fromkeys(form for forms in strong.values() for form in forms))


def passwords_in(url: str) -> tuple[str, ...]:
    """Return the passwords of a URL, as they are written and percent-decoded.

    >>> passwords_in("redis://me:p%40ss@host/0?password=other")
    ('p%40ss', 'p@ss', 'other')
    """
    found = _URL_PASSWORD.match(url)
    words = [found[1], unquote(found[1])] if found else []
    for name, value in parse_qsl(url.partition("?")[2]):
        if "password" in name.lower():
            words.append(value)
    return tuple(dict.fromkeys(words))


def searched_forms() -> tuple[bytes, ...]:
    """Return the forms that ``contains_secret`` looks for; they change with each new word."""
    return _all_forms


def contains_secret(data: bytes | memoryview, *, bulk: bool = False) -> bool:
    """True if the data holds one of the words: plain, percent-encoded, in hex, or within base64.

    ``bulk`` looks for plain words only: 0.1 ms a word for each MB. Words that are easily guessed
    are not searched for: they protect nothing, and a job may contain "password" by chance.
    """
    data = bytes(data) if isinstance(data, memoryview) else data
    for form in _bulk_forms if bulk else _all_forms:  # noqa: SIM110  any() costs as much as the search
        if form in data:
            return True
    return False


def redact_secrets(text: str) -> str:
    """Replace each of the words in a text by ``***``."""
    for form in _all_forms:
        text = text.replace(form.decode("utf-8", "surrogateescape"), REDACTED)
    return text


def redact_all_words(text: str) -> str:
    """Replace guessable words too, where they stand alone: for text that is shown, never run."""
    text = redact_secrets(text)
    for word in list(_forms_by_word):
        if word in text:
            # a very short word may be a name in the code: replaced only within quotes
            around = r"\w" if len(word) > _NAME_LIKE_LENGTH else r"[^'\"]"
            text = re.sub(rf"(?<!{around}){re.escape(word)}(?!{around})", REDACTED, text)
    return text


def _encoded_forms(word: str) -> tuple[bytes, ...]:
    """Return the forms in which data may hold the word, the plain one first; () for a weak word.

    For 64 hex digits also the 32 bytes that they stand for, because those are the key.
    """
    mixed = re.search(r"\d", word) and re.search(r"[^\W\d]", word)
    if weakness_of(word, _MIN_MIXED_LENGTH if mixed else MIN_SECRET_LENGTH):
        return ()  # data may hold it by chance
    data = word.encode("utf-8", "surrogatepass")
    forms = [data, quote(data, safe="").encode(), data.hex().encode(), *_base64_forms(data)]
    if re.fullmatch(r"[0-9a-fA-F]{64}", word):
        raw = bytes.fromhex(word)
        forms += [raw, word.lower().encode(), word.upper().encode(), *_base64_forms(raw)]
    return tuple(dict.fromkeys(forms))


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """Yield what base64 shows of data at any offset in a longer text, such as ``user:password``.

    The first and last characters may hold bits of the text around, and are left out.
    """
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        text = base64.b64encode(bytes(before) + data)[first:last]
        yield text
        yield text.translate(_URL_SAFE)


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
    """Return after how many characters the word repeats itself; its length if it does not."""
    return next(n for n in range(1, len(word) + 1) if word.startswith(word[n:]))
