"""What must not leave this process: its secrets, the passwords of its servers, what holds them.

Whoever may only read Redis must not learn from it how to sign code, or how to log in. So this
process remembers the words it was given, and whatever is written to Redis is looked through.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn
from urllib.parse import parse_qsl, quote, unquote

from redismr.errors import CodeError
from redismr.weak_secrets import MIN_SECRET_LENGTH, weakness_of

REDACTED = "***"

SECRET_REMEDY = (
    "Whoever may read Redis could read it there. Read it where it is used, from a file or a "  # noqa: S105  a text about secrets
    "variable of your own, and keep it out of what is sent"
)

_MAX_WORDS = 64
"""Words of so many are remembered, the latest: a process may start and end servers all day."""

_MIN_MIXED_LENGTH, _NAME_LIKE_LENGTH = 8, 5
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_URL_PASSWORD = re.compile(r"\w[\w+.-]*://[^:@/?#]*:(.*)@", re.DOTALL)

#: Each word with its forms, none if anybody would guess it; the latest word is the last.
_forms_by_word: dict[str, tuple[bytes, ...]] = {}
#: Those that only a private server knows.
_private_words: set[str] = set()
_bulk_forms: tuple[bytes, ...] = ()
_all_forms: tuple[bytes, ...] = ()


class NotSendable(TypeError):
    """Something must stay in this process. ``why`` goes on from its name; ``remedy`` is advice."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what} {why}. {remedy}.")
        self.why, self.remedy = why, remedy


class Unpicklable:
    """A base of what holds a secret, or a line to a server: it refuses to be pickled, by name."""

    __slots__ = ()
    _display_name: ClassVar[str] = ""

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        """Refuse.

        Raises:
            NotSendable: always.
        """
        raise NotSendable(
            self._display_name or f"a {type(self).__name__}",
            "holds a secret or a line to a server, and stays in the process that made it",
            "Send what it gave you, or make another one there, with a URL and a secret that are "
            "read there (from a file, or variables of your own)",
        )


class WithheldSecret:
    """Stands on a worker for a literal that stayed with the submitter. Any use of it says so.

    Its truth and its type are no use: modules ask for them while they load, and both are known.
    """

    __slots__ = ("_line", "_module", "_type")

    def __init__(self, module: str, line: int, literal_type: type = str) -> None:
        self._module, self._line, self._type = module, line, literal_type

    def __repr__(self) -> str:
        """Where it was."""
        return f"<a secret of line {self._line} of {self._module}, which stayed with the submitter>"

    def __bool__(self) -> bool:
        """As of the literal."""
        return True

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """That of the literal, so that ``isinstance`` is no use of it."""
        return self._type

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse.

        Raises:
            CodeError: always.
        """
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

    ``private`` are random ones of a server that only this user can reach: no data can hold them by
    mistake, and nobody else reads there, so they are not looked for in bulk.
    """
    global _bulk_forms, _all_forms  # noqa: PLW0603  what is looked for follows what is known
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
    """The passwords of a URL, as they stand in it and as they are meant.

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
    """What ``contains_secret`` looks for: changes when another secret is met."""
    return _all_forms


def contains_secret(data: bytes | memoryview, *, bulk: bool = False) -> bool:
    """Whether bytes hold one of the words: as it is, percent-encoded, in hex, within base64.

    ``bulk`` looks for the words as they are only: 0.1 ms a word for each MB. What anybody would
    guess is not looked for: it protects nothing, and a job may say "password" where it likes.
    """
    data = bytes(data) if isinstance(data, memoryview) else data
    for form in _bulk_forms if bulk else _all_forms:  # noqa: SIM110  any() costs as much as the look
        if form in data:
            return True
    return False


def redact_secrets(text: str) -> str:
    """The text with ``***`` for each of the words.

    >>> remember_secrets("Xk29-fLq8-Tr61-0o")
    >>> redact_secrets("login Xk29-fLq8-Tr61-0o")
    'login ***'
    """
    for form in _all_forms:
        word = form.decode("utf-8", "surrogateescape")
        if word in text:
            text = text.replace(word, REDACTED)
    return text


def redact_all_words(text: str) -> str:
    """The same, and for guessable words too, where they stand alone: for text that nothing runs."""
    text = redact_secrets(text)
    for word in list(_forms_by_word):
        if word in text:
            around = r"\w" if len(word) > _NAME_LIKE_LENGTH else r"[^'\"]"  # x is a name as well
            text = re.sub(rf"(?<!{around}){re.escape(word)}(?!{around})", REDACTED, text)
    return text


def _is_strong(word: str) -> bool:
    """Whether the word cannot stand anywhere by chance."""
    mixed = re.search(r"\d", word) and re.search(r"[^\W\d]", word)
    return not weakness_of(word, _MIN_MIXED_LENGTH if mixed else MIN_SECRET_LENGTH)


def _encoded_forms(word: str) -> tuple[bytes, ...]:
    """How the word may be written, as it is first; nothing for one that may stand there by chance.

    64 hex digits also as the bytes that they stand for, which is what they are used as.
    """
    if not _is_strong(word):
        return ()
    data = _encode_word(word)
    forms = [data, quote(data, safe="").encode(), data.hex().encode(), *_base64_forms(data)]
    if re.fullmatch(r"[0-9a-fA-F]{64}", word):
        raw = bytes.fromhex(word)
        forms += [raw, word.lower().encode(), word.upper().encode(), *_base64_forms(raw)]
    return tuple(dict.fromkeys(forms))


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """What base64 shows of data wherever it stands in what is encoded, such as ``user:password``.

    The first and last characters may hold bits of its neighbours, and are left out.
    """
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        text = base64.b64encode(bytes(before) + data)[first:last]
        yield text
        yield text.translate(_URL_SAFE)


def _encode_word(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")
