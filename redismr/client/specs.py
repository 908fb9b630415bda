"""What a caller asks for, sorted; what of it stands in clear; the name of a job."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from redismr.config import JobOptions, job_options
from redismr.core.model import JobSpec

Function = Callable[..., Any]


def sort_out(
    mapfn: Function | None, reducefn: Function | str | None, options: dict[str, Any]
) -> tuple[dict[str, Any], Mapping[str, Any], JobOptions]:
    """Functions, params and the rest of what a caller gave by name."""
    rest = dict(options)
    names = ("combinefn", "partitionfn", "initfn", "finishfn")
    collectfn = rest.pop("collectfn", None)
    functions = {"mapfn": mapfn, "reducefn": reducefn, **{n: rest.pop(n, None) for n in names}}
    if functions["combinefn"] is None:
        functions["combinefn"] = collectfn
    params = rest.pop("params", None) or {}
    return functions, params, job_options(rest)


def clear_fields(spec: JobSpec, key_id: str, *, each_worker: bool) -> dict[str, str | int]:
    """What scheduling needs in clear; copies of sealed fields, and never more than hints."""
    return {
        "python": spec.python,
        "protocol": spec.protocol,
        "key_id": key_id,
        "digest": spec.code_digest,
        "partitions": spec.partitions,
        "retries": spec.retries,
        "lost_leases": spec.lost_leases,
        "lease_ms": spec.lease_ms,
        "skips": int(spec.on_error != "fail"),
        "priority": spec.priority,
        "backup": int(spec.backup),
        "each": int(each_worker),
        "txn": spec.txn,
        "name": spec.name,
    }


def new_job_id() -> str:
    """Its birth in seconds (6 digits of base 36) and 64 random bits."""
    seconds, digits = int(time.time()), ""
    while seconds:
        seconds, digit = divmod(seconds, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return f"{digits}-{secrets.token_hex(8)}"
