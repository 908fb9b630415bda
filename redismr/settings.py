"""Read arguments and the environment into a ``Connection``, once, at the edge of the program.

Arguments come before the environment. Wrong values are refused here, before anything is started,
with a text that says what to set. No text ever holds a secret or the password of a URL.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from redismr.confidential import weakness_of
from redismr.config import DEFAULT_NAMESPACE, Connection, show_value
from redismr.errors import ConfigError

SCHEMES = (
    "redis", "rediss", "unix", "valkey", "valkeys",
    "redis+sentinel", "rediss+sentinel", "valkey+sentinel", "valkeys+sentinel",
)  # fmt: skip

_FALSE_WORDS = ("", "0", "false", "no", "off")

_SECRET_ADVICE = (
    "Make one with `redismr secret`, and set REDISMR_SECRET (or REDISMR_SECRET_FILE) to it "  # noqa: S105  a text about secrets
    "here and on every worker"
)


def resolve_connection(
    url: str | None = None,
    secret: str | None = None,
    namespace: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Connection | None:
    """Return the server to use and its secret; None means that the caller starts a private server.

    The URL is the argument, else REDISMR_URL, else REDIS_URL if a secret is set too. Without a
    secret REDIS_URL is ignored, because it may be another program's cache, and a first run should
    not need a secret (``ignored_url_note`` tells the user). Unless the URL is from REDIS_URL or
    holds a password, it gets REDISMR_PASSWORD, or the contents of the file REDISMR_PASSWORD_FILE.
    Nothing has to be escaped there. A ConfigError says what to set.
    """
    name = resolve_namespace(namespace, environ)
    origin, found_url = _find_url(url, environ)
    if not origin:
        return None
    found_secret = find_secret(secret, environ)
    if found_secret is None and origin == "REDIS_URL":
        return None
    address = _translate_url(found_url, origin)
    if origin != "REDIS_URL":
        address = _with_password(address, environ)
    if found_secret is None:
        raise ConfigError(
            f"{redact_url(found_url)} needs a shared secret: workers run only code that is signed "
            f"with it. {_SECRET_ADVICE}"
        )
    return Connection(url=address, secret=check_secret(found_secret), namespace=name)


def ignored_url_note(
    url: str | None = None, secret: str | None = None, environ: Mapping[str, str] = os.environ
) -> str:
    """Return a line for the user if ``resolve_connection`` ignores REDIS_URL; else ""."""
    origin, found_url = _find_url(url, environ)
    if origin != "REDIS_URL" or find_secret(secret, environ) is not None:
        return ""
    return (
        f"REDIS_URL ({redact_url(found_url)}) is ignored because no REDISMR_SECRET is set: "
        "using a private server"
    )


def find_secret(secret: str | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the argument, else REDISMR_SECRET, else the contents of the file REDISMR_SECRET_FILE.

    One newline at the end of the file is not part of the secret.
    """
    if secret is not None:
        return check_text("the secret", secret)
    return _read_variable_or_file("REDISMR_SECRET", environ)


def check_secret(secret: str) -> str:
    """Return the secret if nobody can guess it. The error's text does not show it."""
    if why := weakness_of(secret):
        raise ConfigError(f"the secret {why}, so it can be guessed. {_SECRET_ADVICE}")
    return secret


def resolve_namespace(namespace: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the prefix of every key: the argument, else REDISMR_NAMESPACE, else "redismr"."""
    origin, name = "the namespace", namespace
    if name is None:
        origin, name = "REDISMR_NAMESPACE", environ.get("REDISMR_NAMESPACE") or DEFAULT_NAMESPACE
    check_text(origin, name)
    # no character that has a meaning in key patterns or hash tags
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", name):
        raise ConfigError(
            f"{origin} {show_value(name)} must be 1 to 64 letters, digits or _ . : - "
            "and start with a letter or digit"
        )
    return name


def is_debugging(environ: Mapping[str, str] = os.environ) -> bool:
    """True if REDISMR_DEBUG asks for whole tracebacks."""
    return environ.get("REDISMR_DEBUG", "").strip().lower() not in _FALSE_WORDS


def redact_url(url: str) -> str:
    """Return the URL for people to read: without user, password and secret query values."""
    # Not with urlsplit, which would leave a password with an unescaped "/" or "#" in the text.
    shown = re.sub(r"^(\w[\w+.-]*:/{0,2})?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"(?i)([?&]\w*(?:password|secret|username)\w*=)[^&]*", r"\1***", shown)


def _read_variable_or_file(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable, else the file that NAME_FILE names, without a newline at its end."""
    if value := environ.get(name):
        return check_text(name, value)
    if not (path := environ.get(f"{name}_FILE")):
        return None
    try:
        text = Path(path).read_bytes().decode()
    except OSError as exc:
        raise ConfigError(f"cannot read {name}_FILE={path}: {exc.strerror}") from exc
    except UnicodeDecodeError:
        # A chained decoding error would show the secret's bytes.
        raise ConfigError(f"{name}_FILE={path} is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _with_password(url: str, environ: Mapping[str, str]) -> str:
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, _, hosts = authority.rpartition("@")
    if ":" in user or re.search(r"[?&]password=", rest):
        return url
    password = _read_variable_or_file("REDISMR_PASSWORD", environ)
    if not password:
        return url
    return f"{scheme}://{user}:{quote(password, safe='')}@{hosts}{rest[len(authority) :]}"


def _find_url(url: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return where the URL was found, in words for a message, and the URL; empty if nowhere."""
    if url is not None:
        return "the URL", check_text("the URL", url)
    for name in ("REDISMR_URL", "REDIS_URL"):
        if value := environ.get(name):
            return name, check_text(name, value)
    return "", ""


def check_text(origin: str, value: object) -> str:
    """Return the value if it is UTF-8 text. An error does not show it: it may be a secret."""
    if not isinstance(value, str):
        raise ConfigError(f"{origin} must be a str, and is of type {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{origin} is not UTF-8 text: it holds a lone surrogate") from None
    return value


def _translate_url(url: str, origin: str) -> str:
    """Return the URL as redis-py wants it."""
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.+)", url)
    if match is None:
        raise ConfigError(
            f"{origin} ({redact_url(url)}) is not a URL: write redis://HOST:6379/0, "
            "rediss://... for TLS, unix:///path/to/socket, or redis+sentinel://HOST:26379/SERVICE"
        )
    scheme, rest = match[1].lower(), match[2]
    if scheme not in SCHEMES:
        raise ConfigError(
            f"{origin} ({redact_url(url)}) starts with {scheme}://, which redismr does not speak; "
            f"it speaks {', '.join(name + '://' for name in SCHEMES)}"
        )
    translated = f"{scheme.replace('valkey', 'redis')}://{rest}"  # what redis-py and the store know
    if scheme.endswith("+sentinel"):
        return translated  # holds several hosts; the store reads them
    try:
        parts = urlsplit(translated)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:
        raise ConfigError(f"{origin} ({redact_url(url)}) has no proper host or port") from None
    if parts.scheme != "unix" and not re.fullmatch(r"/*\d*/*", parts.path):
        raise ConfigError(f"{origin} ({redact_url(url)}) must end in a database number, such as /0")
    return translated
