"""How the bytes of a file become text, and what is said of bytes that do not."""

from __future__ import annotations

import codecs
import platform
from dataclasses import dataclass

from redismr.config import show_value
from redismr.errors import BadInput, ConfigError, SourceError
from redismr.sources.input_files import InputFile
from redismr.sources.record_place import LineBuffer, describe_file_place

_STATEFUL_ENCODINGS = ("utf-7", "hz", "iso2022")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes become text: any codec and error handler that ``bytes.decode`` takes.

    Raises:
        ConfigError: Python knows no such text encoding or error handler.
    """

    name: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        try:
            "\n".encode(self.name)
            codecs.lookup_error(self.errors)
        except (LookupError, ValueError, TypeError) as error:
            raise ConfigError(
                f"encoding={show_value(self.name)}, errors={show_value(self.errors)}: {error}. Give values "  # noqa: E501
                "that bytes.decode knows, such as encoding='latin-1' or errors='replace'."
            ) from error

    @property
    def has_newline_byte(self) -> bool:
        r"""Whether the byte ``\n`` is always a line end, so that a file can be cut there."""
        name = codecs.lookup(self.name).name
        if name == "utf-8-sig":
            return True
        return "\n".encode(self.name) == b"\n" and not name.startswith(_STATEFUL_ENCODINGS)

    def decode(self, data: bytes, file: InputFile, buffer: LineBuffer | None = None) -> str:
        """The text of ``data``, which is all of the file or ``buffer`` of it.

        Raises:
            BadInput: not in this encoding; the message names file, line and byte.
            SourceError: the error handler is a program's own, and not registered here.
        """
        offset = buffer.offset(0) or 0 if buffer else 0
        name = self.name
        if codecs.lookup(name).name == "utf-8-sig":  # the mark belongs to the file, not a buffer
            name = "utf-8"
            if not offset and data.startswith(codecs.BOM_UTF8):
                data, offset = data[3:], 3
        try:
            return data.decode(name, self.errors)
        except UnicodeDecodeError as error:
            before = data[: error.start]
            lines = before if self.has_newline_byte else before.decode(name, "replace").encode()
            line = (buffer.range_start.first_line + buffer.line if buffer else 1) + lines.count(
                b"\n"
            )
            position = describe_file_place(file, line, offset + error.start)
            raise BadInput(
                f"{position}: not {self.name} ({data[error.start : error.start + 1].hex()} hex: "
                f"{error.reason}). Pass the right encoding= (--encoding), or errors='replace' "
                "(--errors replace) to read on with U+FFFD there."
            ) from None  # its own message counts from the buffer, and so would name a second byte
        except UnicodeError as error:  # of a codec that knows no places
            raise BadInput(
                f"{file.path}: not {self.name}: {error}. Pass the right encoding="
            ) from error
        except LookupError as error:
            raise SourceError(
                f"cannot decode {file.path} on {platform.node()}: {error}. Register it in initfn, "
                "which every worker runs before it reads"
            ) from error
