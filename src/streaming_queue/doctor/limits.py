"""Check the limit of open files and sockets against the need of a run."""

from __future__ import annotations

from streaming_queue.config import Config
from streaming_queue.doctor.finding import Finding, ok, problem

BASE_FILES = 32
"""Open files of a run without its questions: database, results, event loop, listeners (measured: 20 to 25)."""


def files_needed(config: Config) -> int:
    """Number of files and sockets that a run opens when every slot is in use.

    A question in flight holds one socket of its sender. A worker in this process holds two more: its own and the one
    to the model. Without a wire between sender and worker, only that to the model remains. Each pool on the way adds
    the two sockets between its sub-coordinator and the sender.
    """
    worker, hierarchy, roster = config.qa.worker, config.network.hierarchy, config.roster
    sockets = sum(
        1 if setup.address is not None or worker.mode == "process" or setup.protocol == "inproc" else 3
        for setup in roster.values()
    )
    if hierarchy:
        for pool_id in hierarchy.pools:
            if (hierarchy.protocol_of(pool_id) or config.protocol) != "inproc":
                sockets += 2 * hierarchy.leaves(pool_id)
    return BASE_FILES + len(roster) + worker.most_at_once * sockets


def open_files(config: Config) -> list[Finding]:
    """Check the limit of open files against the need of the configuration."""
    try:
        import resource
    except ImportError:  # Windows
        return [ok("open files", "not limited by this system")]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = files_needed(config)
    if soft == resource.RLIM_INFINITY or soft >= need:
        limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        return [ok("open files", f"limit {limit}, a run needs up to {need:,}")]
    seen = f"limit {soft:,}, but a run needs up to {need:,}: questions would fail for want of sockets"
    fewer = "lower qa.worker.concurrency or qa.worker.count"
    if hard == resource.RLIM_INFINITY or hard >= need:
        return [problem("open files", seen, f"ulimit -n {need}, or {fewer}")]
    return [problem("open files", seen, f"{fewer}, or have the hard limit ({hard:,}) raised")]
