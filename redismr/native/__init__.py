"""The optional C extension. Everything works without it, and gives the same bytes (README.md here).

``REDISMR_NATIVE=0`` in the environment switches it off for a process and its children.
"""

import os

try:
    if os.environ.get("REDISMR_NATIVE") == "0":
        raise ImportError  # noqa: TRY301 - as where it was not built
    from redismr.native import _totals as totals

    IntBlock = totals.IntBlock
    IS_LOADED = True
except ImportError:

    class IntBlock:  # type: ignore[no-redef]
        """Stands for the block of the extension: no object is one."""

    IS_LOADED = False

__all__ = ["IS_LOADED", "IntBlock", "totals"]
