"""What the SQLite queue costs: CPU microseconds a question, and how fast a large database opens.

    python bench/bench_queue.py [--questions 20000] [--rounds 5] [--large 200000] [--folder .]

CPU is that of the whole process, both threads, with the workers' own loop in it; they answer at once. Each figure is
the best of the rounds and, in brackets, their median: on a shared machine the best says what the code costs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from streaming_queue.messages import Question, Result
from streaming_queue.queue.base import Lease
from streaming_queue.queue.sqlite import SQLiteQueue

COMMITTERS = 32
DIE = """
import asyncio, os, sys
from streaming_queue.messages import Question
from streaming_queue.queue.sqlite import SQLiteQueue
async def main():
    queue = await SQLiteQueue.open(sys.argv[1])
    await queue.put([Question("last", "last")])
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def questions(count: int) -> list[Question]:
    """Questions of some 200 bytes."""
    return [Question(f"What is the answer to question {n}? {'x' * 160}", f"q{n}", "a reference") for n in range(count)]


def answer() -> Result:
    return Result(
        "The answer. " + "y" * 190, "Worker-1", "http", 0.123, 1.0, 2.0, 3.0, 4.0, 200, 202, "m", True, {"n": 7}
    )


async def measured(work: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    """CPU and wall-clock microseconds a question."""
    cpu, wall = time.process_time(), time.perf_counter()
    await work()
    return (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6


async def put_all(queue: SQLiteQueue, batch: list[Question]) -> None:
    for start in range(0, len(batch), 500):
        await queue.put(batch[start : start + 500], bookmark={"line": start})


async def answer_all(queue: SQLiteQueue, count: int, committers: int) -> None:
    """Lease in batches of 64, commit by `committers` slots at once, read all results as a projection does."""
    buffer: list[Lease] = []
    refill = asyncio.Lock()

    async def slot() -> None:
        while True:
            if not buffer:
                async with refill:
                    if not buffer:
                        buffer.extend(reversed(await queue.lease(64)))
                if not buffer:
                    return
            lease = buffer.pop()
            queue.sent(lease)
            assert await queue.commit(lease, answer())

    async def project() -> None:
        after = read = 0
        while read < count:
            page = await queue.results(after, 1000)
            read += len(page)
            after = page[-1].number if page else after
            await asyncio.sleep(0.05)

    await asyncio.gather(project(), *(slot() for _ in range(committers)))


async def rounds(folder: Path, count: int, repeat: int) -> dict[str, list[tuple[float, float]]]:
    figures: dict[str, list[tuple[float, float]]] = {}
    batch = questions(count)
    for turn in range(repeat):
        queue = await SQLiteQueue.open(folder / f"{turn}.db")
        for name, work in (
            ("put, batches of 500", lambda queue=queue: put_all(queue, batch)),
            ("put again, all known", lambda queue=queue: put_all(queue, batch)),
            (f"lease + commit + read, {COMMITTERS} at once", lambda queue=queue: answer_all(queue, count, COMMITTERS)),
        ):
            figures.setdefault(name, []).append(await measured(work, count))
        lone = questions(count + 500)[count:]
        await queue.put(lone)
        figures.setdefault("the same, one at a time", []).append(
            await measured(lambda queue=queue, lone=lone: answer_all_alone(queue, len(lone)), len(lone))
        )
        await queue.close()
    return figures


async def answer_all_alone(queue: SQLiteQueue, count: int) -> None:
    done = 0
    while done < count:
        for lease in await queue.lease(64):
            queue.sent(lease)
            assert await queue.commit(lease, answer())
            done += 1


async def opening(path: Path) -> float:
    started = time.perf_counter()
    queue = await SQLiteQueue.open(path)
    seconds = time.perf_counter() - started
    await queue.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=20_000, help="questions a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=200_000, help="questions in the database that is opened")
    parser.add_argument("--folder", type=Path, help="where the databases go; default: the system's temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        print(f"{'microseconds a question':<40}{'CPU':>16}{'wall clock':>18}")
        for what, pairs in asyncio.run(rounds(folder, options.questions, options.rounds)).items():
            columns = [f"{min(values):.1f} ({statistics.median(values):.1f})" for values in zip(*pairs, strict=True)]
            print(f"{what:<40}{columns[0]:>16}{columns[1]:>18}")

        path = folder / "large.db"

        async def fill() -> None:
            queue = await SQLiteQueue.open(path)
            await put_all(queue, questions(options.large))
            await answer_all(queue, options.large, COMMITTERS)
            await queue.close()

        asyncio.run(fill())
        print(f"\nopening {options.large:,} questions, {path.stat().st_size / 1e6:.0f} MB, seconds")
        print(f"{'after a clean close':<40}{asyncio.run(opening(path)):>16.3f}")
        subprocess.run([sys.executable, "-c", DIE, str(path)], check=False)
        print(f"{'after kill -9':<40}{asyncio.run(opening(path)):>16.3f}")


if __name__ == "__main__":
    main()
