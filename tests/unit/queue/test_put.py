"""What `put` promises, for both engines."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

import pytest

from streaming_queue.errors import QueueError, QueueFullError
from streaming_queue.messages import Counts, PutReport, Question, SourceChecks
from streaming_queue.queue.base import candidate_ids


async def stored(queue):
    return [(lease.id, lease.question.text) for lease in await queue.lease(1000)]


async def test_questions_come_back_whole_and_in_order(queue):
    questions = [Question("b?", "q2", "B"), Question("a?\0\n“🙂”", "q1"), Question("", "q3", "")]
    assert await queue.put(questions) == PutReport(added=3)
    assert [lease.question for lease in await queue.lease(10)] == questions
    assert await queue.put([]) == PutReport()


async def test_a_known_id_with_the_same_text_is_counted_whatever_its_state(queue, result, failure):
    texts = {name: Question(f"{name}?", name) for name in ("done", "dead", "leased", "ready", "delayed")}
    await queue.put(list(texts.values()))
    done, dead, _, ready, delayed = await queue.lease(5)
    await queue.commit(done, result())
    await queue.bury(dead, failure())
    await queue.release(ready)
    await queue.retry(delayed, 100, failure())
    before = await queue.counts()
    assert await queue.put(list(texts.values())) == PutReport(known=5)
    assert await queue.counts() == before == Counts(ready=2, leased=1, done=1, dead=1)


async def test_the_same_id_with_another_text_is_renamed(queue):
    report = await queue.put([Question("one", "q"), Question("two", "q"), Question("three", "q"), Question("one", "q")])
    assert report == PutReport(added=3, known=1, renamed=(("q", "q#2"), ("q", "q#3")))
    assert await queue.put([Question("two", "q"), Question("four", "q")]) == PutReport(
        added=1, known=1, renamed=(("q", "q#4"),)
    )
    assert await stored(queue) == [("q", "one"), ("q#2", "two"), ("q#3", "three"), ("q#4", "four")]


async def test_a_stated_id_may_look_like_a_renamed_one(queue):
    await queue.put([Question("one", "q"), Question("other", "q#2"), Question("two", "q")])
    report = await queue.put([Question("other", "q"), Question("taken", "q#3"), Question("five", "q")])
    assert report == PutReport(added=2, known=1, renamed=(("q#3", "q#3#2"), ("q", "q#4")))
    assert await stored(queue) == [
        ("q", "one"),
        ("q#2", "other"),
        ("q#3", "two"),
        ("q#3#2", "taken"),
        ("q#4", "five"),
    ]


async def test_an_anonymous_question_is_always_new(queue):
    same = Question("What is love?")
    stem, second, third = (name for name, _ in zip(candidate_ids(same), range(3), strict=False))
    assert await queue.put([same, same]) == PutReport(added=2)
    assert await queue.put([same]) == PutReport(added=1)
    assert [name for name, _ in await stored(queue)] == [stem, second, third]


async def test_an_anonymous_question_passes_what_others_took(queue):
    stem = next(iter(candidate_ids(Question("x"))))
    await queue.put([Question("x"), Question("y", f"{stem}#2"), Question("x")])
    await queue.put([Question("z", f"{stem}#4"), Question("x")])
    assert [name for name, _ in await stored(queue)] == [stem, f"{stem}#2", f"{stem}#3", f"{stem}#4", f"{stem}#5"]


async def test_many_questions_with_one_id_get_ids_fast(queue):
    questions = [Question(f"text {number}", "q") for number in range(3000)]
    for start in range(0, 3000, 500):
        report = await queue.put(questions[start : start + 500])
        assert report.added == 500
    assert report.renamed[-1] == ("q", "q#3000")
    assert (await queue.put(questions)).known == 3000


async def test_one_id_submitted_100_times_at_once_is_stored_once(queue):
    reports = await asyncio.gather(*(queue.put([Question("same", "q")]) for _ in range(100)))
    assert sum(report.added for report in reports) == 1
    assert sum(report.known for report in reports) == 99
    assert await queue.counts() == Counts(ready=1)


async def test_a_bookmark_is_stored_with_its_batch(make_queue):
    queue = await make_queue(max_open=2)
    assert await queue.bookmark() is None
    await queue.put([Question("a", "a")], bookmark={"line": 1, "path": "é"})
    await queue.put([Question("b", "b")])
    assert await queue.bookmark() == {"line": 1, "path": "é"}
    with pytest.raises(QueueFullError):
        await queue.put([Question("c", "c")], bookmark={"line": 3})
    assert await queue.bookmark() == {"line": 1, "path": "é"}
    await queue.put([], bookmark={"end": True})
    (await queue.bookmark())["end"] = "changed by the reader"
    assert await queue.bookmark() == {"end": True}


async def test_a_full_queue_stores_nothing_of_the_batch(make_queue, result):
    queue = await make_queue(max_open=3)
    await queue.put([Question("a", "a"), Question("b", "b")])
    with pytest.raises(QueueFullError, match=r"2 open questions and takes at most 3; 2 more"):
        await queue.put([Question("c", "c"), Question("d", "d")])
    assert await queue.counts() == Counts(ready=2)
    assert await queue.put([Question("a", "a"), Question("c", "c")]) == PutReport(added=1, known=1)
    assert await queue.put([Question("a", "a")]) == PutReport(known=1)
    (lease,) = await queue.lease(1)
    with pytest.raises(QueueFullError):
        await queue.put([Question("d", "d")])
    await queue.commit(lease, result())
    assert (await queue.put([Question("d", "d")])).added == 1


async def test_after_a_refused_batch_its_ids_are_free(make_queue):
    queue = await make_queue(max_open=3)
    await queue.put([Question("one", "q"), Question("two", "q")])
    with pytest.raises(QueueFullError):
        await queue.put([Question("three", "q"), Question("four", "q")])
    assert (await queue.put([Question("four", "q")])).renamed == (("q", "q#3"),)


@pytest.mark.parametrize(
    "question", [Question("bad \ud800 text", "q"), Question("text", "id \udfff"), Question("text", "q", "\ud800")]
)
async def test_a_text_that_is_not_unicode_is_refused_with_its_batch(queue, question):
    with pytest.raises(QueueError, match="not valid Unicode at position"):
        await queue.put([Question("fine", "fine"), question], bookmark={"line": 2})
    assert await queue.counts() == Counts()
    assert await queue.bookmark() is None


@pytest.mark.parametrize("text", ["x" * 999_999, "\x01" * 170_000, "漢" * 334_000])
async def test_a_question_that_not_every_protocol_carries_is_refused_with_its_batch(queue, text):
    with pytest.raises(QueueError, match="over 1,000,000 bytes as JSON"):
        await queue.put([Question("fine", "fine"), Question(text, "q")])
    assert await queue.counts() == Counts()
    assert (await queue.put([Question(text[: len(text) // 2], "q")])).added == 1


async def test_a_bookmark_may_hold_any_mapping(queue):
    await queue.put([], bookmark=MappingProxyType({"at": MappingProxyType({"line": 3})}))
    assert await queue.bookmark() == {"at": {"line": 3}}


async def test_a_bookmark_that_is_not_json_is_refused(queue):
    with pytest.raises(QueueError, match="bookmark"):
        await queue.put([Question("fine")], bookmark={"file": object()})
    assert await queue.counts() == Counts()


async def test_checks_of_the_source_come_with_their_batch_and_replace_later_ones(queue):
    assert await queue.source_checks() == b""
    for lines, checks, expected in (
        (0, b"11112222", b"11112222"),
        (2, b"33334444", b"1111222233334444"),
        (4, b"", b"1111222233334444"),
        (3, b"5555", b"1111222233335555"),
        (1, b"", b"1111"),
        (1, b"66667777", b"111166667777"),
        (0, b"8888", b"8888"),
    ):
        await queue.put([], bookmark={"lines": lines}, checks=SourceChecks(lines, checks))
        assert await queue.source_checks() == expected


async def test_a_batch_that_is_refused_leaves_no_checks(make_queue):
    queue = await make_queue(max_open=1)
    with pytest.raises(QueueFullError):
        await queue.put([Question("a"), Question("b")], checks=SourceChecks(0, b"1111"))
    assert await queue.source_checks() == b""
