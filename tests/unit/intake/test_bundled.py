from __future__ import annotations

import json
import operator
import re
from math import factorial, isqrt

from streaming_queue.intake import bundled_questions

COUNT = 291
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SUMS = [
    (r"What is (\d+) plus (\d+)\?", operator.add),
    (r"What is (\d+) minus (\d+)\?", operator.sub),
    (r"What is (\d+) times (\d+)\?", operator.mul),
    (r"What is (\d+) divided by (\d+)\?", operator.floordiv),
    (r"What is (\d+) to the power of (\d+)\?", operator.pow),
    (r"What is (\d+) squared\?", lambda number: number**2),
    (r"What is (\d+) cubed\?", lambda number: number**3),
    (r"What is (\d+) factorial\?", factorial),
    (r"What is the square root of (\d+)\?", isqrt),
    (r"What is (\d+)% of (\d+)\?", lambda percent, number: percent * number // 100),
    (r"(\d+) 加 (\d+) 等于多少\W", operator.add),
    (r"(\d+) 乘以 (\d+) 等于多少\W", operator.mul),
]


def _records() -> list[dict[str, str]]:
    return [json.loads(line) for line in bundled_questions().read_text(encoding="utf-8").splitlines()]


def test_every_question_is_its_own_and_has_a_short_reference():
    records = _records()
    assert len(records) == COUNT
    assert [record["id"] for record in records] == [f"q{number:03d}" for number in range(1, COUNT + 1)]
    assert len({record["question"].casefold() for record in records}) == COUNT
    for record in records:
        assert set(record) == {"id", "question", "answer"}
        assert record["question"] == record["question"].strip()
        assert 0 < len(record["answer"]) <= 40


def test_a_tenth_is_in_chinese():
    assert sum(bool(CHINESE.search(record["question"])) for record in _records()) >= COUNT / 10


def test_the_arithmetic_is_right():
    checked = 0
    for record in _records():
        for pattern, compute in SUMS:
            if found := re.fullmatch(pattern, record["question"]):
                assert record["answer"] == str(compute(*map(int, found.groups()))), record
                checked += 1
    assert checked >= 16


async def test_the_bundled_set_is_read_whole(read):
    reading = await read(None, strict=True)
    assert len(reading.questions) == COUNT
    assert all(question.reference for question in reading.questions)
