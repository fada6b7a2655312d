"""Whether this process may open as many files and sockets as a run needs."""

from __future__ import annotations

from streaming_queue.config import Config
from streaming_queue.doctor.finding import Finding, ok, problem

BASE_FILES = 32
"""What a run has open beside its questions: database, results, event loop, listeners (measured: 20 to 25)."""


def files_needed(config: Config) -> int:
    """How many files and sockets a run opens when every slot is in use.

    A question in flight holds the socket of whoever asks; where the worker is in this process, too, also the worker's
    and the one to the model, which is all there is where no wire is between the two. Each pool on its way adds the two
    between its sub-coordinator and whoever asks that.
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
    """The limit of open files against what the configuration needs."""
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
