"""The points at which a command can be hit: the n-th call of a kind on a file."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CALLS = ("write", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename", "renameat", "renameat2", "clock_nanosleep")
FAULTS = ("KILL", "EIO", "ENOSPC", "EINTR")
SEED = 20261201

_LINE = re.compile(r'^(?P<thread>\d+)\s+(?P<call>\w+)\((?:\d+<(?P<fd>[^>]*)>|"(?P<path>[^"]*)")?')


@dataclass(frozen=True, order=True)
class Point:
    """The `number`-th `call` of one thread on a file of that `name` (empty: no file); the fault that hits it."""

    call: str
    name: str
    number: int
    fault: str

    def __str__(self) -> str:
        return f"{self.call}:{self.name}:{self.number}:{self.fault}"

    @classmethod
    def parse(cls, text: str) -> Point:
        call, name, number, fault = text.split(":")
        return cls(call, name, int(number), fault)

    def options(self, directory: Path) -> list[str]:
        """Options of strace that hit it for files in `directory`."""
        fault = "signal=KILL" if self.fault == "KILL" else f"error={self.fault}"
        path = ["-P", str(directory / self.name)] if self.name else []
        faster = [] if self.fault == "KILL" else ["--seccomp-bpf"]  # with it, strace 6.1 delivers no signal
        return [*faster, *path, "-e", f"trace={self.call}", "-e", f"inject={self.call}:{fault}:when={self.number}"]


def strace() -> str:
    """Path of a strace that may trace here; skips the test if there is none."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run([path, "-f", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.splitlines()[0]}")
    return path


def traced(options: Sequence[str], log: Path) -> list[str]:
    """The command before a command that writes its calls to `log`."""
    return [strace(), "-f", "-qq", "-y", "-o", str(log), *options]


ALL = ["--seccomp-bpf", "-e", f"trace={','.join(CALLS)}"]


def every(log: Path, directory: Path) -> list[Point]:
    """All points of a command, by the log of its undisturbed course with `ALL`: files in `directory`, and sleeps."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for line in log.read_text().splitlines():
        found = _LINE.match(line)
        if found is None or found["call"] not in CALLS:
            continue
        path = found["fd"] or found["path"]
        if path is None:
            counts[found["thread"], found["call"], ""] += 1
        elif Path(path).is_relative_to(directory):
            counts[found["thread"], found["call"], str(Path(path).relative_to(directory))] += 1
    most: dict[tuple[str, str], int] = {}
    for (_, call, name), count in counts.items():
        most[call, name] = max(count, most.get((call, name), 0))
    return sorted(
        Point(call, name, number, fault)
        for (call, name), count in most.items()
        for number in range(1, count + 1)
        for fault in (("KILL", "EINTR") if call == "clock_nanosleep" else FAULTS)
    )


def sample(points: Iterable[Point], size: int, seed: str) -> list[Point]:
    """`size` points, spread over kinds of calls and files: each has its turn before one has a second."""
    chance = random.Random(seed)
    kinds: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points):
        kinds.setdefault((point.call, point.name), []).append(point)
    for kind in kinds.values():
        chance.shuffle(kind)
    order = list(kinds.values())
    chance.shuffle(order)
    chosen: list[Point] = []
    while order and len(chosen) < size:
        chosen += [kind.pop() for kind in order if kind][: size - len(chosen)]
        order = [kind for kind in order if kind]
    return chosen
