"""Power cuts: the file system of a run is shut down, and what was not synced to it is gone."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashpoints.rig import ids
from e2e.waiting import until
from faults.history import History
from faults.machine import program, root

COUNT = 300
SHUTDOWN = 0x8004587D
"""The call that ends ext4 and XFS at once."""
NO_FLUSH = struct.pack("I", 2)


class Disk:
    """A small ext4 on a file."""

    def __init__(self, folder: Path) -> None:
        self._image, self.point = folder / "image", folder / "disk"

    def make(self) -> None:
        with self._image.open("wb") as image:
            image.truncate(64 << 20)
        subprocess.run([program("mkfs.ext4"), "-q", self._image], check=True)
        self.point.mkdir()
        if refused := self.mount():
            pytest.skip(f"mount is not allowed here: {refused}")

    def mount(self) -> str:
        """Mount it, as a machine that starts; empty, or why it cannot be."""
        done = subprocess.run(
            [program("mount"), "-o", "loop", self._image, self.point], capture_output=True, text=True, check=False
        )
        return done.stderr.strip() if done.returncode else ""

    def cut(self) -> None:
        """No byte reaches the image from now on."""
        folder = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, NO_FLUSH)
        finally:
            os.close(folder)

    def unmount(self) -> None:
        subprocess.run([program("umount"), self.point], check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root()
    made = Disk(tmp_path)
    made.make()
    yield made
    made.unmount()


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["run.json", "queue.db", 1, 60, 150, 250])
def test_a_power_cut_loses_nothing_acknowledged(stq, witness, disk, moment) -> None:
    peer, run = witness(0.02), disk.point / "run"
    history = History(run)
    start = ["run", "-q", stq.questions(COUNT), "-p", "http", "-s", f"qa.worker.endpoints=[{peer.address}]", "-o", run]
    process = stq.start(*start)
    until((run / moment).exists if isinstance(moment, str) else lambda: history.look() >= moment)
    disk.cut()
    process.kill()
    process.communicate(timeout=60)
    disk.unmount()
    assert not disk.mount()
    done = stq(*(["resume", run] if (run / "queue.db").exists() else start))
    history.check(done.returncode, count=COUNT)
    given = {answer for _, answer in peer.log.answers()}
    assert {answer for _, answer in ids(run / "results.jsonl")} <= given
    assert max(peer.log.asked().values()) <= 2
