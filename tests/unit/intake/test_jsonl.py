from __future__ import annotations

import json

import pytest

from streaming_queue.intake import Problem
from streaming_queue.intake.jsonl import _SHAPES_KEPT, JsonlDecoder
from streaming_queue.intake.lines import MAX_LINE_BYTES
from streaming_queue.intake.names import LOOKED_FOR
from streaming_queue.intake.remarks import Remarks
from streaming_queue.messages import Question


@pytest.mark.parametrize(
    ("record", "question"),
    [
        ({"q": "a"}, Question("a")),
        ({"question": "a"}, Question("a")),
        ({"query": "a"}, Question("a")),
        ({"input": "a"}, Question("a")),
        ({"prompt": "a"}, Question("a")),
        ({"text": "a"}, Question("a")),
        ({"QUESTION": "a", "ID": "x", "Answer": "b"}, Question("a", "x", "b")),
        ({"text": "e", "prompt": "d", "input": "c", "query": "b", "question": "a"}, Question("a")),
        ({"q": None, "text": "a"}, Question("a")),
        ({"q": "a", "id": "x"}, Question("a", "x")),
        ({"q": "a", "question_id": "x"}, Question("a", "x")),
        ({"q": "a", "qid": "x"}, Question("a", "x")),
        ({"q": "a", "qid": "y", "question_id": "z", "id": "x"}, Question("a", "x")),
        ({"q": "a", "id": None}, Question("a")),
        ({"q": "a", "id": ""}, Question("a")),
        ({"q": "a", "id": 7}, Question("a", "7")),
        ({"q": "a", "id": "x" * 512}, Question("a", "x" * 512)),
        ({"q": "a", "id": "é 中\u00a0"}, Question("a", "é 中\u00a0")),
        ({"q": "a", "reference": "b"}, Question("a", None, "b")),
        ({"q": "a", "answer": "b"}, Question("a", None, "b")),
        ({"q": "a", "expected": "b"}, Question("a", None, "b")),
        ({"q": "a", "target": "b"}, Question("a", None, "b")),
        ({"q": "a", "target": "e", "expected": "d", "answer": "c", "reference": "b"}, Question("a", None, "b")),
        ({"q": "a", "id": "", "qid": "x"}, Question("a", "x")),
        ({"q": "a", "answer": 42}, Question("a", None, "42")),
        ({"q": "a", "answer": 0}, Question("a", None, "0")),
        ({"q": "a", "answer": True}, Question("a", None, "true")),
        ({"q": "a", "answer": False}, Question("a", None, "false")),
        ({"q": "a", "answer": ["b"]}, Question("a", None, "b")),
        ({"q": "a", "answer": [None, "", 2.50]}, Question("a", None, "2.5")),
        ({"q": "a", "answers": ["b", "c"]}, Question("a", None, "b")),
        ({"q": "a", "answer": []}, Question("a")),
        ({"q": "a", "answer": {"value": "b"}}, Question("a")),
        ({"q": "a", "answer": {"value": "b"}, "target": "c"}, Question("a", None, "c")),
        ({"q": "a", "answer": ""}, Question("a")),
        ({"q": "a", "answer": None, "target": "b"}, Question("a", None, "b")),
        ({"q": " \ta\u00a0\r\n", "other": {"deep": [1, 2]}}, Question(" \ta\u00a0\r\n")),
        ({"q": "a\x00b\u2028c"}, Question("a\x00b\u2028c")),
    ],
)
async def test_fields(one, record, question):
    assert await one(json.dumps(record)) == question
    assert await one(json.dumps(record, ensure_ascii=False)) == question


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1", "1"),
        ("1.0", "1.0"),
        ("1.50", "1.50"),
        ("1e3", "1e3"),
        ("-7", "-7"),
        ("18446744073709551615", "18446744073709551615"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
async def test_a_number_keeps_its_json_text(one, number, text):
    assert await one('{"q": "a", "id": ' + number + "}") == Question("a", text)
    assert await one('\ufeff{"q": "a", "id": ' + number + "}") == Question("a", text)
    assert await one('{"q": "a", "answer": ' + number + "}") == Question("a", None, text)
    assert await one('{"q": "a", "answer": [' + number + "]}") == Question("a", None, text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage", "not JSON: unexpected character, expected a JSON value at column 1"),
        (b'{"q": "a"', "not JSON: unexpected end of data at column 10"),
        (b'{"q": "a"} {"q": "b"}', "not JSON: unexpected content after document at column 12"),
        (b'{"q": "a", "score": NaN}', "not JSON: unexpected character"),
        (b'{"q": "a", "score": Infinity}', "not JSON: unexpected character"),
        (b"{'q': 'a'}", "not JSON: "),
        (b'{"q": "\\ud800"}', "not JSON: no low surrogate"),
        (b'{"q": "\\udc00 x"}', "not JSON: "),
        (b'{"q": "a\xff"}', "not UTF-8: byte 0xff at position 9"),
        (b'{"q": "\xed\xa0\x80"}', "not UTF-8: byte 0xed"),
        (b"[" * 100_000, "not JSON: depth limit exceeded"),
        (b'{"q":' * 2000 + b"1" + b"}" * 2000, "not JSON: depth limit exceeded"),
        (b'["a"]', "the line is an array, not a JSON object; write one object a line"),
        (b'"a"', "the line is text, not a JSON object"),
        (b"5", "the line is a number, not a JSON object"),
        (b"true", "the line is a boolean, not a JSON object"),
        (b"null", "the line is null, not a JSON object"),
        ("\u00a0null".encode(), "the line is null, not a JSON object"),
        (b"{}", f"no question: looked for {LOOKED_FOR}, found no field"),
        (
            b'{"title": "a", "id": 1}',
            f"no question: looked for {LOOKED_FOR}, found 'title', 'id'",
        ),
        (b'{"q": null}', "the question is missing"),
        (b'{"q": 5}', "the question is a number, not text"),
        (b'{"q": 5.5, "id": 1.5}', "the question is a number, not text"),
        (b'{"q": false}', "the question is a boolean, not text"),
        (b'{"q": {"text": "a"}}', "the question is an object, not text"),
        (b'{"input": [{"role": "user", "content": "a"}]}', "the question is an array, not text"),
        (b'{"q": ""}', "the question is empty"),
        (b'{"q": " \\n\\u00a0"}', "the question is empty"),
        (b'{"q": "a", "id": true}', "the id is a boolean, neither text nor a number"),
        (b'{"q": "a", "id": ["x"]}', "the id is an array, neither text nor a number"),
        (b'{"q": "a", "id": "' + b"x" * 513 + b'"}', "the id has 513 characters, over 512"),
        (b'{"q": "a", "id": "x\\u001b[31m"}', "the id has a control character"),
        (b'{"q": "a", "id": "x\\n"}', "the id has a control character"),
        (b'{"q": "a", "id": "x\\u0085"}', "the id has a control character"),
        (b'{"q": "a", "id": "x\\u2028"}', "the id has a control character"),
        (b'{"q": "' + b"a" * MAX_LINE_BYTES + b'"}', "the line is over 1 MB (1,048,576 bytes)"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_bad_line_is_skipped_and_said(one, line, reason):
    problem = await one(line)
    assert isinstance(problem, Problem)
    assert problem.reason.startswith(reason)


async def test_a_reason_never_quotes_the_line_raw(one):
    problem = await one(json.dumps({"\x1b[31m" + "x" * 500: 1} | {f"field {n}": n for n in range(100)}))
    assert problem.reason.isprintable()
    assert len(problem.reason) < 500
    assert problem.reason.endswith("and 81 more")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_a_line_of_exactly_the_limit_is_read(one, end, write, read):
    line = b'{"q": "a", "more": "' + b"a" * (MAX_LINE_BYTES - len(b'{"q": "a", "more": ""}')) + b'"}'
    assert len(line) == MAX_LINE_BYTES
    longer = line.replace(b'"q"', b'"q" ')
    reading = await read(write(line + end + longer + end + line))
    assert reading.texts == ["a", "a"]
    assert reading.locations == ["in.jsonl:2"]


async def test_a_fractional_id_beside_deep_nesting(one):
    line = b'{"q": "a", "id": 1.5, "x": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    outcome = await one(line)
    assert outcome == Question("a", "1.5") or outcome.reason == "not JSON: nested too deep"


@pytest.mark.parametrize(
    "data",
    [
        b'{"q": "a"}\n{"q": "b"}\n',
        b'{"q": "a"}\n{"q": "b"}',
        b'{"q": "a"}\r\n{"q": "b"}\r\n',
        b'\xef\xbb\xbf{"q": "a"}\n{"q": "b"}\n',
        b'\xef\xbb\xbf\r\n{"q": "a"}\n\n  \t\n{"q": "b"}\n\n\n',
        '\u00a0{"q": "a"}\u00a0\n\u00a0\n{"q": "b"}\n'.encode(),
        b'{"q": "a"}\n\xef\xbb\xbf{"q": "b"}\n',
        b'  {"q": "a"}\n\t{"q": "b"}  \n',
    ],
)
@pytest.mark.parametrize("name", ["in.jsonl", "in"])
async def test_harmless_forms(write, read, data, name):
    reading = await read(write(data, name))
    assert reading.texts == ["a", "b"]
    assert reading.problems == []


async def test_each_record_may_have_its_own_fields(write, read):
    reading = await read(write('{"q": "a"}\n{"id": 2, "prompt": "b"}\n{"Question": "c", "target": "d"}\n'))
    assert reading.questions == [Question("a"), Question("b", "2"), Question("c", None, "d")]
    assert reading.description.endswith("in.jsonl: question from 'q'")


def test_only_so_many_shapes_are_remembered_and_none_that_is_large():
    decoder = JsonlDecoder(Remarks("in"))
    huge = json.dumps({"x" * 2000: 1, "q": "a"}).encode()
    assert decoder.take(huge) == decoder.take(huge) == Question("a")
    assert len(decoder._shapes) == 0
    for number in range(300):
        line = json.dumps({f"extra {number}": number, "q": f"text {number}"}).encode()
        assert decoder.take(line) == Question(f"text {number}")
    assert len(decoder._shapes) == _SHAPES_KEPT


async def test_strict_refuses_the_first_bad_line_after_what_came_before(write, read):
    path = write('{"q": "a"}\n{"q": "b"}\n{"q": ""}\n{"q": "c"}\nbad\n')
    reading = await read(path, strict=True)
    assert reading.texts == ["a", "b"]
    assert str(reading.error) == f"{path}:3: the question is empty"
