"""Globs: links to folders are followed, and each folder below ``**`` is visited once.

``glob.glob`` does two things wrong with ``**``. It follows a link to the folder around the link
until the name is too long, and never ends with two such links. And it silently leaves out the
contents of a folder that it has no permission to read.
"""

import glob
import os
from collections.abc import Iterator
from contextlib import suppress

from redismr.errors import SourceError


def match_glob(pattern: str) -> list[str]:
    """Return the sorted names that match the path or glob, written as in it ("./a.txt")."""
    if os.path.lexists(pattern):
        return [pattern]
    return sorted(set(_expand(os.path.expanduser(pattern))))


def _expand(pattern: str) -> Iterator[str]:
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    star_index = parts.index("**")
    before, after = os.sep.join([*parts[:star_index], ""]), os.sep.join(parts[star_index + 1 :])
    for root in glob.glob(before) if glob.has_magic(before) else [before]:
        for folder in _walk_folders(root):
            if star_index < len(parts) - 1:
                yield from _expand(glob.escape(folder) + after)
                continue
            yield from (folder + entry.name for entry in _visible_entries(folder))
            if folder:
                yield folder


def _walk_folders(root: str) -> Iterator[str]:
    """Yield ``root`` and the folders below it, each once: "" or a name that ends with a slash.

    Hidden folders are left out. Links are followed last, so that a folder that is also reached
    without a link has the name without it.
    """
    seen, links = set[tuple[int, int]](), [root]
    while links:
        inner = [links.pop(0)]
        while inner:
            folder = inner.pop()
            try:
                status = os.stat(folder or ".")
            except OSError:
                continue  # the folder is gone, or a link leads in a circle
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            yield folder
            for entry in _visible_entries(folder):
                with suppress(OSError):  # a link leads in a circle
                    if entry.is_dir():
                        name = os.path.join(folder, entry.name, "")
                        (links if entry.is_symlink() else inner).append(name)


def _visible_entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SourceError(
            f"cannot read the folder {folder!r}: {error.strerror or error}. Choose a pattern "
            "that does not lead there, or get permission to read it."
        ) from error
    return sorted(found, key=lambda entry: entry.name)
