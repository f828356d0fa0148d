"""Which job this code runs for, so that a step of a replacement counts only while the job is still this worker's.

A worker that was taken for dead may live: PostgreSQL had no connection left for its sign of life, or the machine stood
still. What it does then, another worker does as well. Each would take what the other one did for the user's doing, and
an original that one of them put into the bin would take the other's copy with it. So a step is journaled by a statement
that looks at the job, under a lock that whoever takes it up waits for, and nothing is removed before that.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import psycopg
from sqlalchemy.exc import OperationalError


@dataclass(frozen=True, slots=True)
class Held:
    """A job and who works on it.

    Attributes:
        job_id: The job.
        worker_id: The worker it was fetched by.
    """

    job_id: int
    worker_id: int | None


HELD: ContextVar[Held | None] = ContextVar("held_job", default=None)
"""The job under way in this context; None outside of jobs, where nobody else works on the same."""


class JobTakenOver(OperationalError):
    """Another worker works on this job by now: stop, and change nothing more at the provider."""

    def __init__(self) -> None:
        super().__init__("journaling a step", None, psycopg.OperationalError("the job was taken over"))
