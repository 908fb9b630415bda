"""A job's functions and their modules: packed by the submitter, loaded by workers and readers."""

from redismr.shipping.load import (
    LoadedCode,
    OtherPythonCode,
    load_code,
    load_for_reader,
    load_params,
)
from redismr.shipping.pack import PackedCode, digest_code, pack

__all__ = [
    "LoadedCode",
    "OtherPythonCode",
    "PackedCode",
    "digest_code",
    "load_code",
    "load_for_reader",
    "load_params",
    "pack",
]
