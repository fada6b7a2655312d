"""The agents of a run: one coordinator, and its workers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import field_validator

from streaming_queue.config.section import Addresses, AtLeastOne, Integer, PathText, Port, Section, Text


class Coordinator(Section):
    """The coordinator: its address and its questions.

    `start_port` is another name of `port`.
    """

    other_names: ClassVar[Mapping[str, str]] = {"start_port": "port"}

    coordinator_id: Text = "Coordinator-1"
    """Its agent id."""
    host: Text = "127.0.0.1"
    """Address to listen on."""
    port: Port | None = None
    """Port to listen on; null or 0: a free one."""
    data_file: PathText | None = None
    """File of questions; null: the set that comes with the package."""
    result_file: PathText | None = None
    """Second file for the results; null: only the files of the run."""
    batch_size: AtLeastOne = 64
    """Most questions leased from the queue at once."""
    window: AtLeastOne | None = 100_000
    """Most questions read ahead of their answers; then the source waits. null: no limit."""
    first_50: bool = False
    """Ask only the first 50 questions."""
    limit: AtLeastOne | None = None
    """Number of questions to ask; null: all."""
    count: Integer = 1
    """Number of coordinators; a run has exactly one."""

    @field_validator("coordinator_id")
    @classmethod
    def _own_id(cls, value: str) -> str:
        if value == "Runner" or re.fullmatch(r"Worker-\d+", value):
            raise ValueError("this id belongs to another agent of the run")
        return value

    @field_validator("count")
    @classmethod
    def _one(cls, value: int) -> int:
        if value != 1:
            raise ValueError("must be 1: one coordinator owns a run; start another run beside it for more")
        return value

    @property
    def question_limit(self) -> int | None:
        """Number of questions to ask: the smaller of `limit` and `first_50`. None: all."""
        limits = [limit for limit in (self.limit, 50 if self.first_50 else None) if limit is not None]
        return min(limits, default=None)


MOST_AT_ONCE = 64
"""The most questions in flight at a worker with concurrency auto."""


class Worker(Section):
    """The workers: number, addresses, questions at a time."""

    count: AtLeastOne = 4
    """Number of workers to start."""
    host: Text = "127.0.0.1"
    """Address they listen on."""
    start_port: Port | None = None
    """Port of Worker-1; Worker-2 takes the next, and so on. null or 0: free ones."""
    concurrency: AtLeastOne | Literal["auto"] = 8
    """Questions in flight at each worker. auto: adapted to its answers, up to 64."""
    mode: Literal["inprocess", "process"] = "inprocess"
    """Where started workers run: in the runner's process, or each in its own process, which is restarted if it dies."""
    endpoints: Addresses = ()
    """Addresses of workers that run already. The run then starts none and ignores count."""

    @property
    def most_at_once(self) -> int:
        """The most questions in flight at each worker."""
        return MOST_AT_ONCE if self.concurrency == "auto" else self.concurrency


class QA(Section):
    """Questions and answers: the coordinator asks, the workers answer."""

    coordinator: Coordinator = Coordinator()
    worker: Worker = Worker()
