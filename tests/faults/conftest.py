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
    """`network(command, after=path)`: how to run a program in a network of its own, a loopback on which that happens.

    The shell's `command` is run when the file `after` has something in it. Skips the test where this cannot be had.
    """
    root()
    unshare = program("unshare")
    program("ip")

    def inside(command: str, *, after: Path) -> list[str]:
        tried = [unshare, "--net", "sh", "-c", f"ip link set lo up && {command}"]
        done = subprocess.run(tried, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine does not: {done.stderr.strip()}")
        waiting = f"while [ ! -s '{after}' ]; do kill -0 $! || break; sleep 0.1; done"
        script = f'ip link set lo up && {{ "$0" "$@" & }} && {waiting}; {command}; wait $!'
        return [unshare, "--net", "sh", "-c", script]

    return inside
