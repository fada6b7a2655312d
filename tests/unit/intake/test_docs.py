"""What docs/input.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streaming_queue.intake import bundled_questions, fields, names, source
from streaming_queue.messages import Question

PAGE = (Path(__file__).parents[3] / "docs" / "input.md").read_text(encoding="utf-8")


def _snippet(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return text


def _reasons() -> list[str]:
    table = PAGE.partition("| line | reason given |")[2].partition("\n\n")[0]
    return [row.split("|")[-2].strip().strip("`") for row in table.splitlines()[2:]]


@pytest.mark.parametrize("name", ["questions.jsonl", "questions"])
async def test_the_jsonl(write, read, name):
    reading = await read(write(_snippet("jsonl"), name))
    assert reading.problems == []
    assert [question.id for question in reading.questions] == ["capital", "2", None]
    assert reading.questions[0] == Question("What is the capital of France?", "capital", "Paris")
    assert reading.questions[1] == Question("What is 17 times 23?", "2", "391")


@pytest.mark.parametrize("name", ["questions.csv", "questions"])
async def test_the_csv(write, read, name):
    reading = await read(write(_snippet("csv"), name))
    assert reading.problems == []
    assert reading.questions == [
        Question("What is the capital of France, the country?", "capital", "Paris"),
        Question('Which word is missing here?\nThe quick "brown" ___ jumps.', "lines", "fox"),
    ]


def test_the_fields():
    rows = {
        row.split("|")[1].strip().split(",")[0]: row.split("|")[2] for row in PAGE.splitlines() if row.count("|") == 4
    }
    for role, known in (("question", names.QUESTION), ("id", names.ID), ("reference", names.REFERENCE)):
        assert tuple(re.findall(r"`(\w+)`", rows[role])) == known


async def test_the_reasons(write, read):
    bad = [
        b'{"q": "ab"}x',
        b'{"q": "a\xff"}',
        b"[]",
        b'{"title": 1}',
        b'{"input": []}',
        b'{"q": null}',
        b'{"q": " "}',
        b'{"q": "a", "id": "\\n"}',
        b'{"q": "' + b"x" * 999_999 + b'"}',
        b"x" * 1_048_577,
    ]
    reading = await read(write(b'{"q": "good"}\n' + b"\n".join(bad)))
    table = await read(write('a,b,q\n1,2,good\n1,2,one, two\n1,2,"open\n', "in.csv"))
    given = [problem.reason for problem in reading.problems + table.problems]
    for shown, reason in zip(_reasons(), given, strict=True):
        pattern = ".*".join(map(re.escape, shown.split("...")))
        assert re.match(pattern, reason), (shown, reason)


def test_the_numbers():
    assert f"{len(bundled_questions().read_bytes().splitlines())} questions" in PAGE
    assert f"begins with {source.MAX_UNUSABLE:,} such lines" in PAGE
    assert f"within {source.FLUSH_S * 1000:.0f} ms" in PAGE
    assert f"up to {fields.MAX_ID_LENGTH} characters" in PAGE
