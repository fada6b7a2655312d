"""`stq resume`: go on with a run that was stopped or killed."""

from __future__ import annotations

from streaming_queue.cli.options import Concurrency, JsonLines, Limit, RunPath, Sets, Trust, Workers
from streaming_queue.cli.run import execute


def resume(
    directory: RunPath,
    workers: Workers = None,
    concurrency: Concurrency = None,
    limit: Limit = None,
    sets: Sets = None,
    trust: Trust = False,
    json: JsonLines = False,
) -> int:
    """Go on with a run that was stopped or killed, or whose dead letters were replayed.

    Answers are kept, the rest is asked. New settings hold from here on, for later resumes too. Settings of DIR that
    start, import or write something are followed if you wrote them on this machine, or with --trust.
    """
    from streaming_queue.config import resume_config
    from streaming_queue.report.run_directory import RunDirectory

    flags = {"qa.worker.count": workers, "qa.worker.concurrency": concurrency, "qa.coordinator.limit": limit}
    manifest = RunDirectory.open(directory).manifest
    config = resume_config(
        manifest["config"],
        directory,
        flags=flags,
        sets=sets or (),
        run_id=manifest["run_id"],
        mark=manifest.get("mark"),
        trust=trust,
    )
    return execute(config, json=json)
