from __future__ import annotations

import csv
import io

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.intake import open_source
from streaming_queue.intake.lines import MAX_LINE_BYTES
from streaming_queue.intake.names import LOOKED_FOR
from streaming_queue.messages import Question

HEADER = b"id,question,answer\n"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"id,question,answer\n1,a,b\n", "in.csv"),
        (b"id,question,answer\n1,a,b", "in.csv"),
        (b"id,question,answer\r\n1,a,b\r\n", "in.csv"),
        (b"\xef\xbb\xbfid,question,answer\r\n1,a,b\r\n", "in.CSV"),
        (b"\n  \n\xef\xbb\xbfid,question,answer\n\n1,a,b\n\n,,\n", "in.csv"),
        (b'"id","question","answer"\n"1","a","b"\n', "in.csv"),
        (b" ID , Question ,ANSWER\n1,a,b\n", "in.csv"),
        (b"id;question;answer\n1;a;b\n", "in.csv"),
        (b"id\tquestion\tanswer\n1\ta\tb\n", "in.tsv"),
        (b"note,answer,question,id\nx,b,a,1\n", "in.csv"),
        (b"qid,prompt,expected\n1,a,b\n", "in"),
        (b"qid;prompt;expected\n1;a;b\n", "in.txt"),
        (b"qid\tprompt\texpected\n1\ta\tb\n", "in"),
        (b"id,question,answer\n1,a,b,,\n", "in.csv"),
    ],
)
async def test_tables(write, read, data, name):
    reading = await read(write(data, name))
    assert reading.questions == [Question("a", "1", "b")]
    assert reading.problems == []


async def test_the_description_names_the_columns_as_written(write, read):
    reading = await read(write("ID,Prompt,note,Target\n1,a,,b\n", "in.csv"))
    assert reading.description.endswith("in.csv: question from 'Prompt', id from 'ID', reference from 'Target'")


async def test_cells_are_kept_as_they_are(write, read):
    rows = [["1", 'a "quoted" word, a comma\nand\r\na line', "b"], ["2", " a\u00a0", "b;\t"], ["3", "'5\" pipe'", ""]]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["id", "question", "answer"], *rows])
    reading = await read(write(out.getvalue(), "in.csv"))
    assert reading.questions == [Question(text, id_, reference or None) for id_, text, reference in rows]
    assert reading.problems == []


async def test_a_missing_cell_is_no_value(write, read):
    reading = await read(write("question,id,answer,text\na\nb,,\n,4,,d\n", "in.csv"))
    assert reading.questions == [Question("a"), Question("b"), Question("d", "4")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1,,b", "the question is missing"),
        (b"1,  ,b", "the question is empty"),
        (b"1,a, which was, b", "4 cells under a header of 3: quote a cell that holds the delimiter"),
        (b"1,a\xff,b", "not UTF-8: byte 0xff"),
        (b"x\x1b,a,b", "the id has a control character"),
        (b"1,a\rb,c", "not CSV: "),
        (b"1," + b"a" * MAX_LINE_BYTES + b",b", "the row is over 1 MB (1,048,576 bytes)"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_bad_row_is_skipped_and_said(one, row, reason):
    problem = await one(row, "in.csv", HEADER, b"0,good,")
    assert problem.reason.startswith(reason)


async def test_a_long_cell_is_read(one):
    text = "a" * 900_000
    assert await one(f"1,{text},b", "in.csv", HEADER, b"0,good,") == Question(text, "1", "b")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'1,"a\n\n b\xff\n",c', "not UTF-8: byte 0xff"),
        (b'1,"a\n\n",b,c', "4 cells under a header of 3"),
        (b'1,"a\n\n"\rb,c', "not CSV: "),
        (b'1,"\n \n",b', "the question is empty"),
    ],
)
async def test_a_bad_row_of_several_lines_is_named_by_its_first(write, read, row, reason):
    reading = await read(write(HEADER + b"0,first,\n" + row + b"\n2,last,\n", "in.csv"))
    assert reading.texts == ["first", "last"]
    assert reading.locations == ["in.csv:3"]
    assert reading.problems[0].reason.startswith(reason)


async def test_a_quote_never_closed_is_said_and_spoils_no_earlier_row(write, read):
    reading = await read(write(HEADER + b'0,first,\n1,"a,b\n2,lost,\n', "in.csv"))
    assert reading.texts == ["first"]
    assert reading.locations == ["in.csv:3"]
    assert "never closed" in reading.problems[0].reason


async def test_a_row_that_grows_too_long_is_given_up_and_the_next_line_begins_a_row(write, read):
    filler = b"x" * 999 + b"\n"
    data = HEADER + b'0,first,\n1,"a,b\n' + filler * 1100 + b"2,last,\n"
    reading = await read(write(data, "in.csv"))
    assert reading.texts == ["first", "last"]
    assert reading.locations[0] == "in.csv:3"
    assert reading.problems[0].reason == "the row is over 1 MB (1,048,576 bytes); is a quote in it never closed?"


async def test_a_cell_of_very_many_lines_takes_linear_time(write, read):
    lines = b'""\n' * 150_000
    reading = await read(write(HEADER + b'1,"' + lines + b'",b\n', "in.csv"))
    assert reading.texts == ['"\n' * 150_000]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            b"title,body",
            f"no column holds the question: looked for a column named {LOOKED_FOR}",
        ),
        (b"title,body", "the header has 'title', 'body'"),
        (b"title;body", "the header has 'title', 'body'"),
        (b'{"q": "a"}', 'the header has \'{"q": "a"}\''),
        (b'id,"question', "a quote in the header is never closed"),
        (b"question\xff", "the header is not UTF-8"),
        (b"question\rid\r1", "the header is not CSV: "),
        (b"question," + b"x" * MAX_LINE_BYTES, "the header is over 1 MB (1,048,576 bytes)"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_header_that_cannot_be_used_is_refused(write, header, reason):
    path = write(header + b"\n1,2\n", "in.csv")
    with pytest.raises(ConfigError) as error:
        await open_source(path)
    assert reason in str(error.value)
    assert str(error.value).startswith(path)


async def test_a_header_alone_holds_no_question(write):
    with pytest.raises(ConfigError, match=r"has no usable question: .* found the fields 'id', 'question'"):
        await open_source(write("id,question\n", "in.csv"))


async def test_strict_names_the_row(write, read):
    path = write('question,id\na,1\n"b\n\nb",2\n,3\n', "in.csv")
    reading = await read(path, strict=True)
    assert reading.texts == ["a", "b\n\nb"]
    assert str(reading.error) == f"{path}:6: the question is missing"
