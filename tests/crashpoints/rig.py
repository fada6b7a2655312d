"""Runs over a worker or a model server of the test's own, whose log is the independent record."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crashpoints.points import ALL, Point, every, traced
from e2e.conftest import Stq
from faults.history import History

from streaming_queue.exit_codes import ExitCode

COUNT = 14
HALF = 7
LIMIT_S = 60
DOCUMENTED = {*map(int, ExitCode), -9}
MARK = "CRASHPOINT_MARK"


@dataclass
class Done:
    """The end of a command."""

    arguments: list[str]
    code: int
    talk: str
    calls: str = ""

    def __str__(self) -> str:
        return f"stq {' '.join(self.arguments)} -> {self.code}\n{self.talk[-1500:]}"


@dataclass
class Log:
    """What the peer was asked and what it answered, by its own account; `since` cuts off what came before."""

    path: Path
    since: int = 0

    def read(self) -> list[tuple[str, str, str | None]]:
        content = self.path.read_bytes() if self.path.exists() else b""
        return [tuple(json.loads(line)) for line in content[self.since :].splitlines()]

    def now(self) -> Log:
        return Log(self.path, self.path.stat().st_size if self.path.exists() else 0)

    def asked(self) -> Counter[str]:
        return Counter(question for what, question, _ in self.read() if what == "asked")

    def answers(self) -> set[tuple[str, str]]:
        return {(question, answer) for what, question, answer in self.read() if answer is not None}


@dataclass
class Rig:
    """A command in `directory`, with the options to start a run and the peer's log.

    `name` is the command that is hit: run, resume, replay, purge or repair. `template` is the run before it.
    """

    name: str
    stq: Stq
    log: Log
    start: list[str]
    env: dict[str, str] = field(default_factory=dict)
    refuse: Path | None = None
    number: int = 0

    @property
    def template(self) -> Path:
        return self.stq.directory / "template" / "run"

    def prepare(self) -> None:
        """Make the run that the command finds."""
        if self.name == "run":
            return
        if self.name == "resume":
            assert self._stq("run", *self.start, "-n", str(HALF), "-o", str(self.template)).code == 0
            return
        assert self.refuse
        self.refuse.touch()
        done = self._stq("run", *self.start, "-o", str(self.template), "-s", "scheduler.max_attempts=1")
        assert done.code == ExitCode.SOME_FAILED, done
        self.refuse.unlink()

    def fresh(self) -> Path:
        """A directory for the command, as it is before it."""
        self.number += 1
        run = self.stq.directory / f"case-{self.number}" / "run"
        run.parent.mkdir()
        if self.template.exists():
            shutil.copytree(self.template, run)
        return run

    def command(self, run: Path) -> list[str]:
        return {
            "run": ["run", *self.start, "-o", str(run)],
            "resume": ["resume", str(run), "-n", str(COUNT)],
            "replay": ["dlq", "replay", str(run)],
            "purge": ["dlq", "purge", str(run), "--yes"],
            "repair": ["doctor", str(run), "--repair", "-o", str(run.parent / "new")],
        }[self.name]

    def points(self) -> list[Point]:
        """All points of the command."""
        run = self.fresh()
        log = self.stq.directory / "calls.txt"
        done = self._stq(*self.command(run), before=traced(ALL, log))
        assert done.code == 0, done
        written = run.parent / "new" if self.name == "repair" else run
        found = every(log, written)
        assert found, "strace saw no call"
        shutil.rmtree(run.parent)
        return found

    def hit(self, point: Point) -> bool:
        """Hit the command at `point`, go on until the end, and judge; whether the point was reached."""
        run = self.fresh()
        written = run.parent / "new" if self.name == "repair" else run
        history, log = History(run), self.log.now()
        before = content(run) if self.name == "repair" else {}
        self._looked(run, history)
        calls = run.parent / "calls.txt"
        done = self._stq(*self.command(run), before=traced(point.options(written), calls))
        log_then = log.now()
        reached = "INJECTED" in calls.read_text() or done.code == -9
        judge(done)
        if self.name == "repair":
            self._repaired(run, done, before)
        else:
            self._ends(run, history, log, log_then)
        shutil.rmtree(run.parent)
        return reached

    def _ends(self, run: Path, history: History, log: Log, then: Log) -> None:
        self._looked(run, history)
        told = dict(history.acknowledged)
        commands = 1
        for _ in range(4):
            done = self._stq("resume", str(run), "-n", str(COUNT))
            judge(done)
            commands += 1
            if done.code == ExitCode.USAGE and not (run / "queue.db").exists():
                done = self._stq(*self.command(run))  # nothing was accepted yet: it says so, and the run starts anew
                judge(done)
            self._looked(run, history)
            if done.code == ExitCode.SOME_FAILED and self.name in {"replay", "purge"}:
                judge(again := self._stq(*self.command(run)))
                assert again.code == 0, again
                continue
            if done.code == 0:
                break
        assert done.code == 0, f"the run does not end: {done}"
        history.check(done.code, count=COUNT if self.name in {"run", "resume", "replay"} else None)
        rows = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
        given = Log(self.log.path).answers()
        assert all((row["question"], row["answer"]) in given for row in rows), "an answer was recorded that nobody gave"
        again = then.asked()
        for row in rows:
            assert row["question_id"] not in told or not again[row["question"]], (
                "an acknowledged question was asked again"
            )
        assert all(count <= commands for count in log.asked().values()), "a question was asked twice by one command"
        if self.name == "purge":
            assert len(rows) == COUNT - len(range(0, COUNT, 3))

    def _looked(self, run: Path, history: History) -> None:
        if (run / "results.jsonl").exists():
            history.look()
        if self.name in {"replay", "purge"}:
            history.replayed()  # its row of a failure may go at any moment

    def _repaired(self, run: Path, done: Done, before: dict[str, bytes]) -> None:
        assert content(run) == before, "the source was changed"
        last = self._stq(*self.command(run))
        judge(last)
        if last.code == ExitCode.USAGE:
            assert "name a new directory with -o" in last.talk, last
            last = self._stq("doctor", str(run), "--repair", "-o", str(run.parent / "newer"))
            judge(last)
        assert last.code == 0, last
        target = run.parent / ("newer" if "newer" in " ".join(last.arguments) else "new")
        assert ids(target / "results.jsonl") == ids(run / "results.jsonl")
        assert done.code != 0 or ids(run.parent / "new" / "results.jsonl") == ids(run / "results.jsonl")

    def _stq(self, *arguments: str, before: list[str] | None = None) -> Done:
        mark = f"{os.getpid()}-{self.number}"
        process = subprocess.run(
            [*(before or []), sys.executable, "-m", "streaming_queue.cli", *arguments],
            cwd=self.stq.directory,
            env={**self.stq.environment, **self.env, MARK: mark},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert not (left := orphans(mark)), f"{arguments} left processes behind: {left}"
        return Done(list(arguments), process.returncode, process.stdout + process.stderr)


def judge(done: Done) -> None:
    """How every command ends, whatever happened to it."""
    assert done.code in DOCUMENTED, f"an undocumented exit code: {done}"
    assert "Traceback" not in done.talk, f"a traceback: {done}"
    assert done.code in {0, -9} or done.talk.strip(), f"no word: {done}"


def content(run: Path) -> dict[str, bytes]:
    """Bytes of the files of a run, but for SQLite's shared memory."""
    return {path.name: path.read_bytes() for path in run.iterdir() if not path.name.endswith("-shm") and path.is_file()}


def ids(path: Path) -> list[tuple[str, str | None]]:
    rows = map(json.loads, path.read_text().splitlines())
    return sorted((row["question_id"], row["answer"]) for row in rows)


def orphans(mark: str) -> list[str]:
    """Processes that still have the mark of a command that has ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found
