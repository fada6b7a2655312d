"""`stq resume`: go on with a run that was stopped or killed."""

from __future__ import annotations

from streaming_queue.cli.options import Concurrency, JsonLines, Limit, RunPath, Sets, Workers
from streaming_queue.cli.run import execute


def resume(
    directory: RunPath,
    workers: Workers = None,
    concurrency: Concurrency = None,
    limit: Limit = None,
    sets: Sets = None,
    json: JsonLines = False,
) -> int:
    """Go on with a run that was stopped or killed, or whose dead letters were replayed.

    Answers are kept, the rest is asked. New settings hold from here on, for later resumes too.
    """
    from streaming_queue.config import resume_config
    from streaming_queue.report.run_directory import RunDirectory

    flags = {"qa.worker.count": workers, "qa.worker.concurrency": concurrency, "qa.coordinator.limit": limit}
    manifest = RunDirectory.open(directory).manifest
    return execute(resume_config(manifest["config"], directory, flags=flags, sets=sets or ()), json=json)
