"""Check the ports of a configuration: free, or taken by another process."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from streaming_queue.config import Config
from streaming_queue.doctor.finding import Finding, ok, problem

_LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp (Linux, include/net/tcp_states.h)."""


def named_ports(config: Config) -> Iterator[tuple[str, str, int]]:
    """Agent id, host and port of each agent that a run starts at a configured port."""
    coordinator, worker = config.qa.coordinator, config.qa.worker
    if coordinator.port and config.control_protocol != "inproc":
        yield coordinator.coordinator_id, coordinator.host, coordinator.port
    roster = config.roster
    for worker_id, port in config.ports.items():
        if roster[worker_id].protocol != "inproc":
            yield worker_id, worker.host, port


def ports(config: Config) -> list[Finding]:
    """Check that a run can listen on each port. No port stays open."""
    found = [_port(*named) for named in named_ports(config)]
    return found or [ok("ports", "none is configured: a run takes free ones")]


def _port(agent_id: str, host: str, port: int) -> Finding:
    where = f"{agent_id} on {host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        with closing(socket.socket(family, kind, protocol)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except UnicodeError as error:
        return problem("ports", f"{where}: {error}", "choose an address of this machine")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            owner = owner_of_port(port)
            seen = f"{where}: taken" + (f" by {owner}" if owner else "")
            return problem("ports", seen, "stop what listens there, or choose another port (null takes a free one)")
        if error.errno == errno.EACCES:
            return problem("ports", f"{where}: not allowed for this user", "choose a port above 1023")
        return problem("ports", f"{where}: {error.strerror}", "choose an address of this machine")
    return ok("ports", f"{where}: free")


def owner_of_port(port: int, proc: Path = Path("/proc")) -> str | None:
    """The owner of `port` as `process 123 (name)`; None if the system or the rights hide it."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not wanted:
        return None
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):  # the process ended, or belongs to another user
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in wanted:
                        return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return None


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
