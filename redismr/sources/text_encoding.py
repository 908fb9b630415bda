"""Text encodings of input files, and the errors for bytes that are not in the encoding."""

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
    """A codec and an error handler that ``bytes.decode`` takes; ConfigError if there is none."""

    name: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        try:
            "\n".encode(self.name)
            codecs.lookup_error(self.errors)
        except (LookupError, ValueError, TypeError) as error:
            raise ConfigError(
                f"encoding={show_value(self.name)}, errors={show_value(self.errors)}: {error}. "
                "Give values that bytes.decode knows, such as encoding='latin-1' or "
                "errors='replace'."
            ) from error

    @property
    def has_newline_byte(self) -> bool:
        r"""True if each byte ``\n`` is a line end, so that a file can be cut there."""
        name = codecs.lookup(self.name).name
        if name == "utf-8-sig":
            return True
        return "\n".encode(self.name) == b"\n" and not name.startswith(_STATEFUL_ENCODINGS)

    def decode(self, data: bytes, file: InputFile, buffer: LineBuffer | None = None) -> str:
        """Return the text of ``data``: the bytes of ``buffer``, or the whole file without one."""
        offset = buffer.offset(0) or 0 if buffer else 0
        name = self.name
        # The byte order mark of utf-8-sig begins the file, not each buffer.
        if codecs.lookup(name).name == "utf-8-sig":
            name = "utf-8"
            if not offset and data.startswith(codecs.BOM_UTF8):
                data, offset = data[3:], 3
        try:
            return data.decode(name, self.errors)
        except UnicodeDecodeError as error:
            before = data[: error.start]
            lines = before if self.has_newline_byte else before.decode(name, "replace").encode()
            first_line = buffer.range_start.first_line + buffer.line if buffer else 1
            line = first_line + lines.count(b"\n")
            place = describe_file_place(file, line, offset + error.start)
            # Without a cause: Python's message counts from the buffer and would name another byte.
            raise BadInput(
                f"{place}: not {self.name} ({data[error.start : error.start + 1].hex()} hex: "
                f"{error.reason}). Pass the right encoding= (--encoding), or errors='replace' "
                "(--errors replace) to read on with U+FFFD there."
            ) from None
        except UnicodeError as error:  # a codec that does not tell the byte
            raise BadInput(
                f"{file.path}: not {self.name}: {error}. Pass the right encoding="
            ) from error
        except LookupError as error:  # the error handler is the submitter's own
            raise SourceError(
                f"cannot decode {file.path} on {platform.node()}: {error}. Register it in initfn, "
                "which every worker runs before it reads"
            ) from error
