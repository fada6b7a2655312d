"""A storm as people start it. Counts are checked here; times depend on the machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from e2e.waiting import until

from streaming_queue.benchmark.figures import family

STORM = (sys.executable, "-m", "streaming_queue.cli", "failstorm", "-p", "http")
TIMES = ("detection_s", "recovery_s", "full_recovery_s", "readmission_s", "p99_ms")


async def start(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*STORM, *arguments, stdout=pipe, stderr=pipe)


async def test_a_storm_loses_nothing_and_says_what_it_saw(tmp_path: Path) -> None:
    folder = tmp_path / "storm"
    plan = ("--cycles", "2", "--every", "2", "--workers", "4", "--kill", "1")
    process = await start(*plan, "--json", "-o", str(folder))
    out, err = await process.communicate()
    entry = json.loads(out.splitlines()[-1])["http"]
    assert (entry["lost"], entry["recorded_twice"], entry["cycles"]) == (0, 0, 2)
    assert all(isinstance(entry[name], int) for name in ("re_executions", "late_duplicates_rejected"))
    assert all(set(entry[name]) == {"median", "low", "high"} for name in TIMES)
    assert process.returncode == (4 if entry["missed"] else 0)
    assert err.count(b"missed: ") == len(entry["missed"])
    rows = [json.loads(line) for line in (folder / "http" / "results.jsonl").read_text().splitlines()]
    assert len({row["question_id"] for row in rows}) == len(rows) == entry["questions"]
    assert {row["status"] for row in rows} == {"success"}
    assert set(Counter(row["worker"] for row in rows)) == {f"Worker-{number}" for number in range(1, 5)}
    seen = json.loads((folder / "http.json").read_text())
    assert [len(cycle["over"]) for cycle in seen["cycles"]] == [1, 1]
    assert {worker for _, worker in seen["downs"]} >= {worker for cycle in seen["cycles"] for worker in cycle["over"]}
    ET.fromstring((folder / "http.svg").read_text())  # noqa: S314 (our own)
    assert sorted(path.name for path in folder.iterdir()) == ["http", "http.json", "http.log", "http.svg"]


@pytest.mark.interop
async def test_an_interrupted_storm_leaves_nobody_behind(tmp_path: Path) -> None:
    plan = ("--cycles", "9", "--every", "30", "--workers", "2", "--kill", "1", "--fault", "stop")
    process = await start(*plan, "-o", str(tmp_path / "storm"))
    await asyncio.to_thread(until, lambda: "T" in states_of(process.pid).values(), 60)
    assert len(states := await asyncio.to_thread(states_of, process.pid)) >= 3
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not [pid for pid in states if Path(f"/proc/{pid}").exists()]


def states_of(pid: int) -> dict[int, str]:
    """The state (proc(5)) of a process and all that it started."""
    states = {}
    for member in family(pid):
        with contextlib.suppress(OSError):
            states[member] = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()[0]
    return states
