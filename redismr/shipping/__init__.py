"""Code on its way from submitter to worker: packed here, loaded there."""

from __future__ import annotations

from redismr.shipping.foreign import Foreign, loaded_from
from redismr.shipping.load import Loaded, load, load_params
from redismr.shipping.pack import Parcel, digest_of, pack

__all__ = ["Foreign", "Loaded", "Parcel", "digest_of", "load", "load_params", "loaded_from", "pack"]
