"""`stq resume`: go on with a run that was paused, stopped or killed."""

from __future__ import annotations

from streaming_queue.cli.options import (
    After,
    Concurrency,
    JsonLines,
    Limit,
    RequireAll,
    RunPath,
    Sets,
    SourceChanged,
    Trust,
    Workers,
)
from streaming_queue.cli.run import execute
from streaming_queue.cli.steer import on_run, unpause
from streaming_queue.exit_codes import ExitCode


def resume(
    directory: RunPath,
    workers: Workers = None,
    concurrency: Concurrency = None,
    limit: Limit = None,
    sets: Sets = None,
    trust: Trust = False,
    require_all: RequireAll = False,
    source_changed: SourceChanged = None,
    json: JsonLines = False,
    after: After = None,
) -> int:
    """Go on with a run that was paused, stopped or killed.

    Answers are kept; open questions are asked. New settings also hold for later resumes. A paused run goes on in its
    own process and takes no new settings. --json prints the rows that results.jsonl lacks, or with --after the rows
    after a cursor. Settings of RUN that start, import or write something need your mark from
    this machine, or --trust.
    """
    from streaming_queue.config import resume_config
    from streaming_queue.errors import ConfigError, ConnectError, QueueInUseError, SendTimeoutError
    from streaming_queue.queue.lock import find_owner
    from streaming_queue.report.run_directory import RunDirectory

    flags = {"qa.worker.count": workers, "qa.worker.concurrency": concurrency, "qa.coordinator.limit": limit}
    flags["output.source_changed"] = source_changed
    flags["network.require_all"] = require_all or None
    if after is not None and not json:
        raise ConfigError("--after selects the rows that --json prints: add --json")
    run = RunDirectory.open(directory)
    manifest = run.manifest
    if (owner := find_owner(run.queue_path)) is not None:
        if sets or any(value is not None for value in flags.values()):
            raise ConfigError(
                f"{directory}: a process works on the run, so it takes no new settings; `stq stop {directory}` first"
            )
        if after is not None:
            raise ConfigError(
                f"{directory}: a process works on the run; `stq results {directory} --after CURSOR --follow` prints "
                "its rows"
            )
        try:
            state = on_run(directory, lambda live: live.stats())["state"]
        except (ConnectError, SendTimeoutError) as error:
            raise QueueInUseError(
                f"{run.queue_path} is in use by {owner}, which does not answer: if it is stopped, `kill -CONT "
                f"{owner.pid or 'PID'}` continues it; if it hangs, kill it; then resume"
            ) from error
        if state == "paused":
            unpause(directory, as_json=json)
            return ExitCode.OK
        raise QueueInUseError(f"{run.queue_path} is in use by {owner}: `stq stop {directory}` stops the run")
    config = resume_config(
        manifest["config"],
        directory,
        flags=flags,
        sets=sets or (),
        run_id=manifest["run_id"],
        mark=manifest.get("mark"),
        trust=trust,
    )
    return execute(config, json=json, rows_after=after)
