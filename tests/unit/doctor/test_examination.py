from __future__ import annotations

import asyncio
import threading
import time

import pytest

from streaming_queue.doctor import examination
from streaming_queue.doctor.examination import Check, examine
from streaming_queue.doctor.finding import Level, ok, problem
from streaming_queue.errors import AuthError

pytestmark = pytest.mark.usefixtures("no_stray_tasks")


def fine():
    return [ok("fine", "all is well")]


async def test_findings_come_in_the_order_of_the_checks():
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def quick():
        loop.call_soon_threadsafe(ended.set)
        return fine()

    async def slow():
        await ended.wait()
        return [ok("slow", "1"), ok("slow", "2")]

    assert await examine([Check("slow", slow), Check("fine", quick)]) == [
        ok("slow", "1"),
        ok("slow", "2"),
        ok("fine", "all is well"),
    ]


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_check_that_fails_is_a_problem_and_hides_neither_the_rest_nor_betrays_a_secret(blocking):
    def fail():
        raise ValueError("the key is hunter2-hunter2")

    async def fail_later():
        fail()

    broken, whole = await examine([Check("broken", fail if blocking else fail_later), Check("fine", fine)])
    assert (broken.check, broken.level, broken.code) == ("broken", Level.PROBLEM, 1)
    assert broken.seen.startswith("the check itself failed: ValueError in test_examination.py, line ")
    assert "hunter2" not in broken.seen
    assert whole == fine()[0]


async def test_our_own_error_is_shown_unchanged():
    async def refuse():
        raise AuthError("not you")

    (finding,) = await examine([Check("agent", refuse)])
    assert (finding.check, finding.level, finding.seen, finding.code) == ("agent", Level.PROBLEM, "not you", 77)


async def test_checks_go_on_at_the_same_time():
    here, there = asyncio.Event(), threading.Barrier(2)

    async def first():
        await here.wait()
        return fine()

    async def second():
        here.set()
        return fine()

    def blocking():
        there.wait(5)
        return fine()

    checks = [Check("first", first), Check("second", second), Check("third", blocking), Check("fourth", blocking)]
    assert await examine(checks) == fine() * 4


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_check_that_hangs_is_a_problem_soon(blocking, monkeypatch):
    monkeypatch.setattr(examination, "BOUND_S", 0.5)
    release = threading.Event()

    async def hang():
        await asyncio.Event().wait()

    def block():
        release.wait(60)
        return fine()

    began = time.monotonic()
    hung, whole = await examine([Check("hung", block if blocking else hang), Check("fine", fine)])
    assert time.monotonic() - began < 5
    assert (hung.level, hung.seen) == (Level.PROBLEM, "no result within 0.5 s")
    assert whole == fine()[0]
    release.set()  # its late result is nobody's
    await asyncio.sleep(0.05)


async def test_a_timeout_of_another_is_not_taken_for_the_checks_own():
    def late():
        raise TimeoutError

    (finding,) = await examine([Check("late", late)])
    assert finding.seen.startswith("the check itself failed: TimeoutError")


async def test_secrets_are_in_no_finding():
    def leak():
        return [problem("leak", "key hunter2-hunter2 and short", "forget hunter2-hunter2"), ok("none", "hunter2")]

    leaked, short = await examine([Check("leak", leak)], secrets=["hunter2-hunter2", "short"])
    assert (leaked.seen, leaked.remedy) == ("key *** and short", "forget ***")
    assert (short.seen, short.remedy) == ("hunter2", None)
