"""Loads ``lua/*.lua`` and calls them by name, with named keys and arguments.

A script's header is the one place where its keys and arguments are named. The loader turns these
names into Lua locals, and refuses a call whose names differ: a call site reads like a function
call, and no index can be wrong. Limits (``limits.py``) that a script names become locals too.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from redismr.store.limits import LIMITS
from redismr.store.round_trips import Argument

_CALL = re.compile(r"redis\.p?call\(\s*'([A-Z]+)'")
_HEADER = re.compile(r"^-- (KEYS|ARGV|FLAGS|INCLUDE|RETURNS): *(.*?)(?:;.*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script of the protocol, with the names of its keys and arguments."""

    name: str  #: The verb.
    keys: tuple[str, ...]  #: Names of the keys, in the script's order.
    argv: tuple[str, ...]  #: Names of the arguments, in the same way.
    rest: str | None  #: Name of the list of all further arguments.
    source: str  #: The full text for the server.
    sha: str  #: SHA-1 of ``source``, for EVALSHA.
    commands: frozenset[str]  #: Redis commands that the script calls.

    def arguments(
        self, keys: Mapping[str, str], argv: Mapping[str, Argument], rest: Sequence[Argument]
    ) -> list[Argument]:
        """Return what EVAL takes behind the script: number of keys, KEYS and ARGV as in the header.

        Raises:
            TypeError: the names are not exactly those of the header.
        """
        if argv.keys() != set(self.argv) or (rest and self.rest is None):
            raise TypeError(
                f"{self.name}.lua takes {self.argv} and *{self.rest}, not {tuple(argv)}"
            )
        named = [argv[name] for name in self.argv]
        return [len(self.keys), *(keys[key] for key in self.keys), *named, *rest]


@cache
def script(name: str) -> Script:
    """Assemble the script of ``lua/<name>.lua`` from its text, its includes and the prelude."""
    text = _read(name)
    header = {field: value.split() for field, value in _HEADER.findall(text)}
    keys = tuple(header["KEYS"])
    named = [argument for argument in header["ARGV"] if not argument.startswith("*")]
    rest = next((a[1:] for a in header["ARGV"] if a.startswith("*")), None)
    flags = header.get("FLAGS", [])
    shebang = "#!lua" + (f" flags={','.join(flags)}" if flags else "")
    body = "\n".join([_read("_prelude"), *map(_read, header.get("INCLUDE", ())), text])
    locals_ = [_locals("KEYS", keys), _locals("ARGV", named)]
    # A search for each name costs each fresh executor 0.05 ms a script; one regex takes 0.3.
    # A name that only a comment holds makes a local that nothing uses.
    locals_ += [f"local {name} = {limit.value}" for name, limit in LIMITS.items() if name in body]
    if rest:
        locals_.append(
            f"local {rest} = {{}} "
            f"for i = {len(named) + 1}, #ARGV do {rest}[#{rest} + 1] = ARGV[i] end"
        )
    source = "\n".join([shebang, *locals_, body])
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    # A script that may not write uses nothing of the prelude but the clock.
    called = frozenset(_CALL.findall(text if "no-writes" in flags else source)) | {"TIME"}
    return Script(name, keys, tuple(named), rest, source, sha, called)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")


def _locals(array: str, words: Sequence[str]) -> str:
    indexed = ", ".join(f"{array}[{i}]" for i in range(1, len(words) + 1))
    return f"local {', '.join(words)} = {indexed}"
