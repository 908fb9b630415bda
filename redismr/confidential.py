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
from redismr.guessing import LEAST, why_guessable

BLANK = "***"

WAY_OUT = (
    "Whoever may read Redis could read it there. Read it where it is used, from a file or a "
    "variable of your own, and keep it out of what is sent"
)

_KEPT = 64
"""Words of so many are remembered, the latest: a process may start and end servers all day."""

_SHORT, _VERY_SHORT = 8, 5
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_PASSWORD = re.compile(r"\w[\w+.-]*://[^:@/?#]*:(.*)@", re.DOTALL)

#: Each word with its forms, none if anybody would guess it; the latest word is the last.
_words: dict[str, tuple[bytes, ...]] = {}
#: Those that only a private server knows.
_private: set[str] = set()
_plain: tuple[bytes, ...] = ()
_forms: tuple[bytes, ...] = ()


class Kept(TypeError):
    """Something must stay in this process. ``why`` goes on from its name; ``way_out`` is advice."""

    def __init__(self, what: str, why: str, way_out: str) -> None:
        super().__init__(f"{what} {why}. {way_out}.")
        self.why, self.way_out = why, way_out


class Confined:
    """A base of what holds a secret, or a line to a server: it refuses to be pickled, by name."""

    __slots__ = ()
    _known_as: ClassVar[str] = ""

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        """Refuse.

        Raises:
            Kept: always.
        """
        raise Kept(
            self._known_as or f"a {type(self).__name__}",
            "holds a secret or a line to a server, and stays in the process that made it",
            "Send what it gave you, or make another one there, with a URL and a secret that are "
            "read there (from a file, or variables of your own)",
        )


class Absent:
    """Stands on a worker for a literal that stayed with the submitter. Any use of it says so.

    Its truth and its type are no use: modules ask for them while they load, and both are known.
    """

    __slots__ = ("_home", "_line", "_type")

    def __init__(self, home: str, line: int, of: type = str) -> None:
        self._home, self._line, self._type = home, line, of

    def __repr__(self) -> str:
        """Where it was."""
        return f"<a secret of line {self._line} of {self._home}, which stayed with the submitter>"

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
            f"line {self._line} of the module {self._home} holds a secret, or the password of a "
            f"server, which stayed with the submitter. {WAY_OUT}."
        )

    __getattr__ = __str__ = __format__ = __bytes__ = __hash__ = __eq__ = __ne__ = _refuse
    __len__ = __iter__ = __contains__ = __getitem__ = __index__ = __int__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __mod__ = __rmod__ = __call__ = __fspath__ = __reduce_ex__ = _refuse


def confide(*words: str, private: bool = False) -> None:
    """Remember secrets and passwords.

    ``private`` are random ones of a server that only this user can reach: no data can hold them by
    mistake, and nobody else reads there, so they are not looked for in bulk.
    """
    global _plain, _forms  # noqa: PLW0603  what is looked for follows what is known
    for word in filter(None, words):
        forms = _words.pop(word, None)
        if not private:
            _private.discard(word)
        elif forms is None:
            _private.add(word)
        _words[word] = _forms_of(word) if forms is None else forms
    for word in list(_words)[:-_KEPT]:
        _words.pop(word, None)
        _private.discard(word)
    strong = {word: forms for word, forms in list(_words.items()) if forms}
    _plain = tuple(forms[0] for word, forms in strong.items() if word not in _private)
    _forms = tuple(dict.fromkeys(form for forms in strong.values() for form in forms))


def passwords_in(url: str) -> tuple[str, ...]:
    """The passwords of a URL, as they stand in it and as they are meant.

    >>> passwords_in("redis://me:p%40ss@host/0?password=other")
    ('p%40ss', 'p@ss', 'other')
    """
    found = _PASSWORD.match(url)
    words = [found[1], unquote(found[1])] if found else []
    for name, value in parse_qsl(url.partition("?")[2]):
        if "password" in name.lower():
            words.append(value)
    return tuple(dict.fromkeys(words))


def known() -> tuple[bytes, ...]:
    """What ``reveals`` looks for: changes when another secret is met."""
    return _forms


def reveals(data: bytes | memoryview, *, bulk: bool = False) -> bool:
    """Whether bytes hold one of the words: as it is, percent-encoded, in hex, within base64.

    ``bulk`` looks for the words as they are only: 0.1 ms a word for each MB. What anybody would
    guess is not looked for: it protects nothing, and a job may say "password" where it likes.
    """
    data = bytes(data) if isinstance(data, memoryview) else data
    for form in _plain if bulk else _forms:  # noqa: SIM110  any() costs as much as the look
        if form in data:
            return True
    return False


def blanked(text: str) -> str:
    """The text with ``***`` for each of the words.

    >>> confide("Xk29-fLq8-Tr61-0o")
    >>> blanked("login Xk29-fLq8-Tr61-0o")
    'login ***'
    """
    for form in _forms:
        word = form.decode("utf-8", "surrogateescape")
        if word in text:
            text = text.replace(word, BLANK)
    return text


def blanked_wholly(text: str) -> str:
    """The same, and for guessable words too, where they stand alone: for text that nothing runs."""
    text = blanked(text)
    for word in list(_words):
        if word in text:
            around = r"\w" if len(word) > _VERY_SHORT else r"[^'\"]"  # x is a name as well
            text = re.sub(rf"(?<!{around}){re.escape(word)}(?!{around})", BLANK, text)
    return text


def _is_strong(word: str) -> bool:
    """Whether the word cannot stand anywhere by chance."""
    mixed = re.search(r"\d", word) and re.search(r"[^\W\d]", word)
    return not why_guessable(word, _SHORT if mixed else LEAST)


def _forms_of(word: str) -> tuple[bytes, ...]:
    """How the word may be written, as it is first; nothing for one that may stand there by chance.

    64 hex digits also as the bytes that they stand for, which is what they are used as.
    """
    if not _is_strong(word):
        return ()
    data = _bytes_of(word)
    forms = [data, quote(data, safe="").encode(), data.hex().encode(), *_in_base64(data)]
    if re.fullmatch(r"[0-9a-fA-F]{64}", word):
        raw = bytes.fromhex(word)
        forms += [raw, word.lower().encode(), word.upper().encode(), *_in_base64(raw)]
    return tuple(dict.fromkeys(forms))


def _in_base64(data: bytes) -> Iterator[bytes]:
    """What base64 shows of data wherever it stands in what is encoded, such as ``user:password``.

    The first and last characters may hold bits of its neighbours, and are left out.
    """
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        text = base64.b64encode(bytes(before) + data)[first:last]
        yield text
        yield text.translate(_URL_SAFE)


def _bytes_of(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")
