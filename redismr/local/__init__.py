"""Jobs in the calling process: the same kernel, no Redis."""

from redismr.local.inline import run_inline

__all__ = ["run_inline"]
