"""A run that something happens to; its history; what this machine can do to it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.conftest import Stq, agents, bad_worker, held_worker, stq, worker
from faults.history import History
from faults.machine import program, root

__all__ = ["agents", "bad_worker", "held_worker", "stq", "worker"]


@pytest.fixture
def history(stq: Stq) -> History:
    """The history of the run in the directory `run`."""
    return History(stq.directory / "run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`small_disk(options)` mounts a file system in memory, with these options; again, it changes them."""
    root()
    mount, point = program("mount"), tmp_path / "disk"
    mounted: list[Path] = []

    def mounting(options: str) -> Path:
        point.mkdir(exist_ok=True)
        again = "remount," if mounted else ""
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", again + options, "tmpfs", point], capture_output=True, text=True, check=False
        )
        if done.returncode and not mounted:
            pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted[:] = [point]
        return point

    yield mounting
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def network() -> Callable[..., list[str]]:
    """`network(command, ...)`: how to run a command in a network of its own, a loopback with these shell commands done.

    Skips the test where that cannot be had.
    """
    root()
    unshare = program("unshare")
    program("ip")

    def inside(*set_up: str) -> list[str]:
        script = " && ".join(["ip link set lo up", *set_up])
        tried = subprocess.run([unshare, "--net", "sh", "-c", script], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"this kernel does not: {tried.stderr.strip()}")
        return [unshare, "--net", "sh", "-c", f'{script} && exec "$0" "$@"']

    return inside
