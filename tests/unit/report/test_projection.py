from __future__ import annotations

import asyncio
import json
import os
import statistics
import threading
import time

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.comm.agents import until
from unit.report.record import Record

from streaming_queue.errors import DiskFullError, QueueClosedError, StreamingQueueError
from streaming_queue.messages import Failure, Question, Result
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.report import projection as module
from streaming_queue.report import rows_file
from streaming_queue.report.projection import Projection
from streaming_queue.telemetry.json_lines import encode_line


def expected(record: Record) -> bytes:
    return b"".join(encode_line(outcome.row()) for outcome in record.outcomes)


def record_of(rows: int, answer: str = "42") -> Record:
    record = Record()
    for number in range(1, rows + 1):
        record.end(f"q-{number}", answer if number % 7 else None)
    return record


async def test_the_file_has_a_row_a_question_in_order(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(2000)
    async with Projection(record, path):
        pass
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["question_id"] for row in rows] == [f"q-{number}" for number in range(1, 2001)]
    assert rows[0]["answer"] == "42"
    assert rows[6]["error"] == {"type": "RemoteError", "message": "it broke"}


async def test_an_empty_run_has_an_empty_file(tmp_path):
    async with Projection(Record(), tmp_path / "results.jsonl"):
        pass
    assert (tmp_path / "results.jsonl").read_bytes() == b""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), rows=st.integers(0, 40), more=st.integers(0, 5), answer=st.text(max_size=200))
def test_a_file_cut_anywhere_is_repaired(tmp_path, data, rows, more, answer):
    path = tmp_path / "results.jsonl"
    record = record_of(rows, answer)
    whole = expected(record)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)), label="cut at")])
    for number in range(more):
        record.end(f"later-{number}", answer)

    async def restart() -> None:
        async with Projection(record, path):
            pass

    asyncio.run(restart())
    assert path.read_bytes() == expected(record)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"garbage\n" * 50,
        lambda whole: whole + b'{"question_id": "somebody else\'s"}\n',
        lambda whole: whole[:100] + b"\0" * 300 + whole[400:],
        lambda whole: whole.replace(b'"answer":"42"', b'"answer":"43"'),
        lambda whole: b"\n" + whole,
        lambda whole: whole + b"\0" * 4096,
        lambda whole: whole[whole.index(b"\n") + 1 :],
    ],
    ids=["garbage", "a row too many", "a hole", "other rows", "a blank line", "a tail of NUL", "the first row gone"],
)
async def test_a_file_that_is_no_prefix_is_written_anew(tmp_path, damage):
    path = tmp_path / "results.jsonl"
    record = record_of(50)
    path.write_bytes(damage(expected(record)))
    async with Projection(record, path):
        pass
    assert path.read_bytes() == expected(record)
    assert [path] == list(tmp_path.iterdir())


async def test_a_whole_file_is_taken_over_unread_by_the_queue(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(5000)
    path.write_bytes(expected(record))
    inode = path.stat().st_ino
    async with Projection(record, path):
        record.end("new")
    assert path.read_bytes() == expected(record)
    assert path.stat().st_ino == inode
    assert record.reads < 10


@pytest.mark.interop
async def test_two_hundred_thousand_rows_are_checked_within_a_second(tmp_path):
    path = tmp_path / "results.jsonl"
    record = Record()
    with path.open("wb") as file:
        for number in range(1, 200_001):
            outcome = record.end(f"q-{number}", "x" * 200)
            file.write(encode_line(outcome.row()))
    began = time.perf_counter()
    projection = Projection(record, path)
    await projection.start()
    took = time.perf_counter() - began
    await projection.finish()
    print(f"200,000 rows, {path.stat().st_size / 1e6:.0f} MB: start in {took:.3f} s")
    assert took < 1.0
    assert record.reads < 10


@pytest.mark.parametrize("nudged", [True, False])
async def test_a_row_is_there_a_fifth_of_a_second_after_its_commit(tmp_path, nudged):
    path = tmp_path / "results.jsonl"
    record = Record()
    took = []
    async with Projection(record, path) as projection:
        for number in range(8):
            await asyncio.sleep(0.03 * number)
            record.end(f"q-{number}")
            if nudged:
                projection.nudge()
            began = time.monotonic()
            await until(lambda: path.read_bytes() == expected(record))
            took.append(time.monotonic() - began)
    assert statistics.median(took) < 0.2  # a busy machine may take longer now and then


async def test_many_nudges_are_few_writes(tmp_path, monkeypatch):
    writes = count_calls(monkeypatch, os, "write")
    record = Record()
    async with Projection(record, tmp_path / "results.jsonl") as projection:
        for number in range(500):
            record.end(f"q-{number}")
            projection.nudge()
            await asyncio.sleep(0)
    assert len(writes) < 30


def count_calls(monkeypatch, owner, name):
    calls = []
    real = getattr(owner, name)

    def counted(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(owner, name, counted)
    return calls


async def test_every_write_ends_with_a_whole_line(tmp_path, monkeypatch):
    writes = count_calls(monkeypatch, os, "write")
    record = record_of(300, "many words " * 200)
    path = tmp_path / "results.jsonl"
    async with Projection(record, path):
        pass
    ours = [bytes(data) for _, data in writes if b"question_id" in bytes(data)]
    assert ours
    assert all(data.endswith(b"\n") for data in ours)
    assert b"".join(ours) == path.read_bytes()


async def test_who_follows_the_file_reads_each_row_once(tmp_path):
    path = tmp_path / "results.jsonl"
    path.touch()
    seen: list[dict] = []
    done = threading.Event()

    def tail() -> None:
        with path.open("rb") as file:
            pending = b""
            while True:
                last = done.is_set()
                pending += file.read()
                *lines, pending = pending.split(b"\n")
                seen.extend(orjson.loads(line) for line in lines)
                if last:
                    assert not pending
                    return
                time.sleep(0.002)

    record = Record()
    reader = asyncio.create_task(asyncio.to_thread(tail))
    async with Projection(record, path) as projection:
        for number in range(300):
            record.end(f"q-{number}", "long " * (number * 10))
            projection.nudge()
            if number % 30 == 0:
                await asyncio.sleep(0.03)
    done.set()
    await reader
    assert [row["question_id"] for row in seen] == [f"q-{number}" for number in range(300)]


async def test_an_end_that_is_taken_back_leaves_one_row_a_question(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(20)
    reported: list[dict] = []
    seen_twice = []

    def ids() -> list[str]:
        return [json.loads(line)["question_id"] for line in path.read_text().splitlines()]

    def row_is_last() -> bool:
        seen = ids()
        seen_twice.append(len(set(seen)) != len(seen))
        return seen[-1] == "q-7"

    async with Projection(record, path, also=reported.append) as projection:
        await until(lambda: len(ids()) == 20)
        inode = path.stat().st_ino
        record.take_back("q-7")
        record.end("q-7", "late, but right")
        projection.nudge()
        await until(row_is_last)
        assert path.stat().st_ino != inode
        record.end("q-21")
    assert not any(seen_twice)
    assert path.read_bytes() == expected(record)
    assert len(ids()) == len(set(ids())) == 21
    assert [row["question_id"] for row in reported] == [f"q-{number}" for number in range(1, 21)] + ["q-7", "q-21"]


async def test_an_end_taken_back_between_two_runs_is_seen_at_the_start(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(10)
    path.write_bytes(expected(record))
    record.take_back("q-7")
    async with Projection(record, path):
        pass
    assert path.read_bytes() == expected(record)


async def test_an_end_taken_back_during_a_rewrite_starts_it_again(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(100)
    path.write_bytes(b"not ours\n")
    real = record.results

    async def results(after: int = 0, limit: int = 1000):
        rows = await real(after, limit)
        if after > 50 and not record.taken_back:
            record.take_back("q-7")
            record.end("q-7", "late")
        return rows

    record.results = results
    async with Projection(record, path):
        pass
    assert record.taken_back == 1
    assert path.read_bytes() == expected(record)


async def test_a_purge_that_raised_no_revision_is_found_at_the_end(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(10)
    async with Projection(record, path):
        await until(lambda: path.read_bytes() == expected(record))
        record.outcomes = [outcome for outcome in record.outcomes if outcome.result]
    assert path.read_bytes() == expected(record)


async def test_a_removed_file_is_back_at_the_end(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(10)
    async with Projection(record, path):
        await until(path.exists)
        path.unlink()
        record.end("last")
    assert path.read_bytes() == expected(record)


async def test_a_full_disk_leaves_no_half_line_and_is_survived(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    record = record_of(3)
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    real, room = os.write, {"bytes": 1 << 40}

    def write(descriptor, data):
        if b"question_id" not in bytes(data) and room["bytes"] > 1 << 30:
            return real(descriptor, data)
        if not room["bytes"]:
            raise OSError(28, "No space left on device")
        data = bytes(data)[: room["bytes"]]
        room["bytes"] -= len(data)
        return real(descriptor, data)

    async with Projection(record, path) as projection:
        await until(lambda: path.read_bytes() == expected(record))
        whole = path.read_bytes()
        room["bytes"] = 10
        monkeypatch.setattr(rows_file.os, "write", write)
        record.end("q-4")
        projection.nudge()
        await until(lambda: room["bytes"] == 0)
        await until(lambda: path.read_bytes() == whole)
        room["bytes"] = 1 << 40
    assert path.read_bytes() == expected(record)


async def test_a_disk_that_stays_full_is_an_error_that_names_the_file_and_the_remedy(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    record = Record()
    projection = Projection(record, path)
    await projection.start()

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    record.end("q-1")
    monkeypatch.setattr(rows_file.os, "write", full)
    with pytest.raises(DiskFullError, match=r"results\.jsonl cannot be written: No space.*`stq resume`"):
        await projection.finish()


async def test_a_path_that_cannot_be_opened_is_an_error_at_the_start(tmp_path):
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(StreamingQueueError, match=r"results\.jsonl cannot be written"):
        await Projection(Record(), tmp_path / "results.jsonl").start()


async def test_an_error_of_the_queue_is_not_lost(tmp_path):
    record = Record()
    projection = Projection(record, tmp_path / "results.jsonl")
    await projection.start()

    async def closed(after: int = 0, limit: int = 1000):
        raise QueueClosedError("the queue is closed")

    record.results = closed
    with pytest.raises(QueueClosedError):
        await projection.finish()


async def test_also_gets_only_what_is_new_and_off_the_event_loop(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(10)
    path.write_bytes(expected(record))
    reported, threads = [], set()

    def also(row):
        reported.append(row)
        threads.add(threading.current_thread())

    async with Projection(record, path, also=also):
        for number in range(11, 600):
            record.end(f"q-{number}")
    assert [row["question_id"] for row in reported] == [f"q-{number}" for number in range(11, 600)]
    assert threading.main_thread() not in threads
    assert reported[0] == record.outcomes[10].row()


async def test_a_slow_listener_holds_up_nothing_but_itself(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(5)
    gate = threading.Event()
    reported = []

    def also(row):
        gate.wait(5)
        reported.append(row)

    async with Projection(record, path, also=also) as projection:
        await until(lambda: path.read_bytes() == expected(record))
        record.end("q-6")
        projection.nudge()
        await until(lambda: path.read_bytes() == expected(record))
        assert reported == []
        gate.set()
    assert len(reported) == 6


async def test_a_listener_that_fails_is_reported_and_the_file_is_whole(tmp_path):
    path = tmp_path / "results.jsonl"
    record = record_of(5)

    def also(row):
        raise RuntimeError("the listener broke")

    with pytest.raises(RuntimeError, match="the listener broke"):
        async with Projection(record, path, also=also):
            record.end("q-6")
    assert path.read_bytes() == expected(record)


async def test_an_exception_in_the_block_is_the_one_that_is_seen(tmp_path):
    record = record_of(5)
    path = tmp_path / "results.jsonl"

    async def closed():
        raise QueueClosedError("the queue is closed")

    with pytest.raises(ZeroDivisionError) as caught:
        async with Projection(record, path):
            await until(lambda: path.read_bytes() == expected(record))
            record.counts = closed
            raise ZeroDivisionError
    assert "could not be finished: the queue is closed" in caught.value.__notes__[0]


async def test_finish_twice_is_finish_once(tmp_path):
    async with Projection(record_of(3), tmp_path / "results.jsonl") as projection:
        await projection.finish()
        await projection.finish()


async def test_also_is_told_of_a_dead_letter_that_is_no_more_and_the_file_has_ends_only(tmp_path):
    queue, path, reported = MemoryQueue(), tmp_path / "results.jsonl", []
    await queue.put([Question(f"text {number}", f"q{number}") for number in range(3)])
    answered, replayed, purged = await queue.lease(3)
    async with Projection(queue, path, also=reported.append):
        await queue.commit(answered, Result("42", "Worker-1", "a2a", 0.1))
        await queue.bury(replayed, Failure("RemoteError", "no"))
        await queue.bury(purged, Failure("RemoteError", "no"))
        await until(lambda: len(reported) == 3)
        await queue.replay(ids=["q1"])
        await queue.purge(ids=["q2"])
        await until(lambda: len(reported) == 5)
    assert [(row["question_id"], row["status"]) for row in reported[3:]] == [("q1", "open"), ("q2", "purged")]
    assert [row["supersedes"] for row in reported[3:]] == [row["cursor"] for row in reported[1:3]]
    assert [json.loads(line) for line in path.read_text().splitlines()] == reported[:1]


async def test_also_begins_after_a_number_whatever_the_file_has(tmp_path):
    path = tmp_path / "results.jsonl"
    record, reported = record_of(10), []
    path.write_bytes(expected(record))
    async with Projection(record, path, also=reported.append, after=4):
        record.end("q-11")
    assert [row["question_id"] for row in reported] == [f"q-{number}" for number in range(5, 12)]
