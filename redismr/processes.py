"""Which process something belongs to: what a program forks has copies of all that it has."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def here_only(clean_up: Callable[P, T]) -> Callable[P, T | None]:
    """The function, which does nothing in a child that this process forks.

    For whatever ends or deletes what the parent still needs: a child that ends, or collects
    garbage, calls its copies of finalizers and exit handlers too.
    """
    process = os.getpid()

    @wraps(clean_up)
    def cleaned(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return clean_up(*args, **kwargs) if os.getpid() == process else None

    return cleaned
