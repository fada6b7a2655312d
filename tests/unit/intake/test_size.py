from __future__ import annotations

import gzip
import tracemalloc

import pytest

from streaming_queue.intake import open_source
from streaming_queue.intake.lines import LineBuffer

MB = 1024 * 1024


async def _peak_bytes(path: str, **options) -> tuple[int, int, int]:
    questions = problems = 0
    tracemalloc.start()
    try:
        async with await open_source(path, **options) as source:
            async for batch in source.batches():
                questions += len(batch.questions)
                problems += len(batch.problems)
        return questions, problems, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _line(number: int) -> bytes:
    return b'{"id": "q%06d", "question": "What is %d plus one?", "answer": "%d"}\n' % (number, number, number + 1)


@pytest.fixture(scope="module")
def many() -> bytes:
    return b"".join(map(_line, range(60_000)))


async def test_memory_is_flat(write, many):
    questions, _, peak = await _peak_bytes(write(many))
    assert questions == 60_000
    assert peak < 10 * MB


async def test_memory_is_flat_where_lines_are_bad(write):
    _, problems, peak = await _peak_bytes(write(b'{"q": "a"}\n' + b"x\n" * 40_000))
    assert problems == 40_000
    assert peak < 10 * MB


async def test_a_line_without_end_is_not_held(write):
    path = write(b'{"q": "a"}\n' + b"x" * (40 * MB) + b"\n" + b'{"q": "b"}\n')
    questions, problems, peak = await _peak_bytes(path)
    assert (questions, problems) == (2, 1)
    assert peak < 10 * MB


async def test_a_quote_without_end_is_not_held(write):
    path = write(b'q,id\na,1\n"b,2\n' + b"x" * 99 + (b"\n" + b"x" * 99) * 30_000, "in.csv")
    questions, _, peak = await _peak_bytes(path)
    assert questions > 15_000
    assert peak < 10 * MB


async def test_a_gzip_bomb_is_not_held(write):
    bomb = gzip.compress(b'{"q": "a"}\n' + b" " * (100 * MB) + b'\n{"q": "b"}\n')
    questions, problems, peak = await _peak_bytes(write(bomb, "in.jsonl.gz"))
    assert (questions, problems) == (2, 1)
    assert peak < 10 * MB


def test_a_long_line_in_single_bytes_takes_linear_time():
    buffer = LineBuffer()
    for _ in range(300_000):
        assert buffer.feed(b"x") == []
    assert buffer.feed(b"\n") == [b"x" * 300_000]


async def test_a_question_that_not_every_protocol_carries_is_skipped_with_its_line(write):
    lines = [b'{"q": "a"}', b'{"q": "' + b"x" * 999_999 + b'"}', b'{"q": "b"}']
    async with await open_source(write(b"\n".join(lines))) as source:
        batches = [batch async for batch in source.batches()]
    assert [question.text for batch in batches for question in batch.questions] == ["a", "b"]
    ((problem,),) = [batch.problems for batch in batches if batch.problems]
    assert problem.location.endswith(":2")
