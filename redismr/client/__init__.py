"""What a program holds: the client, the handle of a job, its results."""

from __future__ import annotations

from redismr.client.client import Client
from redismr.client.job import Job
from redismr.client.results import Results

__all__ = ["Client", "Job", "Results"]
