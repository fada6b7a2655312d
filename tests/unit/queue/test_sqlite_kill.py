"""kill -9 at random moments: what was acknowledged is stored, and nothing twice."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time

from unit.queue.writer import in_writer

from streaming_queue.messages import Question
from streaming_queue.queue.sqlite import SQLiteQueue

KILLS = 10
WORK = """
import asyncio, itertools, os, sys
from streaming_queue.messages import Failure, Question, Result
from streaming_queue.queue.sqlite import SQLiteQueue

def say(what, name):
    os.write(1, f"{what} {name}\\n".encode())

async def main(path, turn):
    queue = await SQLiteQueue.open(path)
    say("open", turn)

    async def feed():
        for number in itertools.count():
            batch = [Question(f"text {turn} {number} {n}", f"{turn}.{number}.{n}") for n in range(20)]
            await queue.put(batch, bookmark={"turn": turn, "number": number})
            for question in batch:
                say("put", question.id)
            await asyncio.sleep(0.002)

    async def work(worker):
        while True:
            for lease in await queue.lease(3, 1.0):
                if lease.attempt == 1 and hash(lease.id) % 5 == 0:
                    await queue.retry(lease, 0.01, Failure("ConnectError", "refused"))
                elif await queue.commit(lease, Result(f"answer to {lease.id}", worker, "inproc", 0.1)):
                    say("done", lease.id)

    await asyncio.gather(feed(), *(work(f"w{n}") for n in range(8)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def batch_of(turn, number):
    return [Question(f"text {turn} {number} {n}", f"{turn}.{number}.{n}") for n in range(20)]


def run_and_kill(path, turn, chance):
    process = subprocess.Popen([sys.executable, "-c", WORK, path, str(turn)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == f"open {turn}\n".encode()
        time.sleep(chance.uniform(0.0, 0.15))
    finally:
        process.kill()
        rest = process.communicate(timeout=20)[0]
    # The last line may be cut.
    return [line.split() for line in rest.decode().split("\n")[:-1]]


async def test_what_was_acknowledged_survives_kill_9(tmp_path):
    path, chance = tmp_path / "queue.db", random.Random(5)
    put, done = [], []
    for turn in range(KILLS):
        for what, name in await asyncio.to_thread(run_and_kill, path, turn, chance):
            (put if what == "put" else done).append(name)
    assert len(put) > 100
    assert len(done) > 50
    assert len(set(done)) == len(done), "an answer was acknowledged as the first twice"

    queue = await SQLiteQueue.open(path)
    counts = await queue.counts()
    assert counts.leased == 0
    outcomes, after = [], 0
    while page := await queue.results(after):
        outcomes += page
        after = page[-1].number
    recorded = {outcome.question.id: outcome.result.answer for outcome in outcomes}
    assert len(recorded) == len(outcomes) == counts.done
    assert [outcome.number for outcome in outcomes] == list(range(1, counts.done + 1))
    assert set(done) <= set(recorded)
    assert all(answer == f"answer to {name}" for name, answer in recorded.items())

    again = [Question("text {} {} {}".format(*name.split(".")), name) for name in put]
    assert (await queue.put(again)).known == len(put)
    mark = await queue.bookmark()
    assert (await queue.put(batch_of(**mark))).known == 20, "the bookmark is ahead of its batch"
    mark["number"] += 1
    assert (await queue.put(batch_of(**mark))).added == 20, "the batch is ahead of its bookmark"
    counts = await queue.counts()

    open_now = [lease.id for lease in await queue.lease(1_000_000)]
    delayed = counts.ready - len(open_now)
    assert delayed >= 0
    assert not set(open_now) & set(recorded)
    actual = await in_writer(
        queue, lambda store: dict(store.db.execute("SELECT state, count(*) FROM question GROUP BY state").fetchall())
    )
    assert actual == {
        state: count
        for state, count in {"leased": len(open_now), "done": counts.done, "delayed": delayed}.items()
        if count
    }
    assert await in_writer(queue, lambda store: store.db.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
    await queue.close()
