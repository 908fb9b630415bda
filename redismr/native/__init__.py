"""The optional C extension. Everything works without it, and gives the same bytes (README.md here).

``REDISMR_NATIVE=0`` in the environment switches it off for a process and its children.
"""

import os

INTERFACE = 1
"""Raised with each change of what the extension offers: a stale build is not used."""

try:
    if os.environ.get("REDISMR_NATIVE") == "0":
        raise ImportError  # noqa: TRY301 - as where it was not built
    from redismr.native import _totals as totals

    if totals.INTERFACE != INTERFACE:
        raise ImportError  # noqa: TRY301 - built from another version of the source
    IntBlock = totals.IntBlock
    IS_LOADED = True
except ImportError:

    class IntBlock:  # type: ignore[no-redef]
        """Stands for the block of the extension: no object is one."""

    IS_LOADED = False

DESCRIPTION = f"with{'' if IS_LOADED else 'out'} the C extension"
"""What versions and logs say of this process."""

__all__ = ["DESCRIPTION", "IS_LOADED", "IntBlock"]
