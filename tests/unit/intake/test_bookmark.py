from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_queue.errors import ConfigError
from streaming_queue.intake import jsonl, open_source
from streaming_queue.intake.parser import Parser, Problem

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON_LINE = st.one_of(
    st.builds(lambda q, i: json.dumps({"q": q, "id": i}), TEXT, st.integers() | st.floats(allow_nan=False) | st.none()),
    st.sampled_from(["", "  ", "\u00a0", "bad", "[]", "null", '{"x": 1}', '{"q": 1}', "\ufeff", "\r", '{"q": "a"}\r']),
)
CELL = st.one_of(
    st.sampled_from(
        ["a", "", " ", '"', '""', '"a', 'b"', '"x\ny"', '"x""y\r\n"', '"\n\n\n"', "\xff", "long" * 30, "\r"]
    ),
)
CSV_LINE = st.lists(CELL, min_size=1, max_size=4).map(",".join)


def parse(data: bytes, form: str, cuts: Sequence[int] = ()) -> list:
    """What a parser makes of `data` fed in pieces, with the error it ends in, if any."""
    parser = Parser("f", form)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    entries = []
    try:
        for start, end in itertools.pairwise(edges):
            entries += parser.feed(data[start:end])
        entries += parser.finish()
    except ConfigError as error:
        entries.append(str(error))
    return entries


@given(st.lists(JSON_LINE, max_size=12), st.lists(st.integers(0), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_cut_of_jsonl_gives_the_same(lines, cuts):
    data = "\n".join(lines).encode()
    assert parse(data, "jsonl", cuts) == parse(data, "jsonl")


@given(st.lists(CSV_LINE, max_size=8), st.lists(st.integers(0), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_cut_of_csv_gives_the_same(rows, cuts):
    data = "\n".join(["q,id", *rows]).encode("latin-1")
    assert parse(data, "table", cuts) == parse(data, "table")


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r")), min_size=2, max_size=2)))
@settings(max_examples=100, deadline=None)
def test_what_the_csv_module_writes_comes_back(rows):
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["q", "answer"], *rows])
    entries = [entry for _, entry in parse(out.getvalue().encode(), "table")]
    wanted = [(text, answer or None) for text, answer in rows if text.strip()]
    assert [(entry.text, entry.reference) for entry in entries if not isinstance(entry, Problem)] == wanted


async def _all(path: str, size: int, **options) -> tuple[list, list[int], list[int]]:
    entries, marks, seen = [], [], []
    async with await open_source(path, **options) as source:
        async for batch in source.batches(size):
            entries += [*batch.questions, *batch.problems]
            marks.append(batch.lines)
            seen.append(len(entries))
    assert marks == sorted(set(marks))
    return entries, marks, seen


def _in_order(entries: list) -> tuple[list, list]:
    return (
        [entry for entry in entries if not isinstance(entry, Problem)],
        [entry for entry in entries if isinstance(entry, Problem)],
    )


@given(
    rows=st.lists(JSON_LINE | CSV_LINE, max_size=12),
    table=st.booleans(),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stop=st.integers(0, 20),
    limit=st.none() | st.integers(0, 6),
)
@settings(max_examples=60, deadline=None)
async def test_going_on_from_any_bookmark_gives_the_rest(tmp_path_factory, *, rows, table, sizes, stop, limit):
    header = ["q,id", "first,0"] if table else ['{"q": "first"}']
    path = tmp_path_factory.mktemp("bookmark") / ("in.csv" if table else "in.jsonl")
    path.write_text("\n".join(header + rows), newline="", encoding="utf-8")
    whole, marks, seen = await _all(str(path), sizes[0])
    assert len(marks) >= 1
    index = stop % len(marks)
    rest, more_marks, _ = await _all(str(path), sizes[1], skip=marks[index])
    assert _in_order(whole[: seen[index]] + rest) == _in_order(whole)
    assert all(mark > marks[index] for mark in more_marks)

    first, limited_marks, _ = await _all(str(path), sizes[1], limit=limit)
    questions = _in_order(whole)[0]
    if limit is None:
        assert _in_order(first) == _in_order(whole)
        return
    assert _in_order(first)[0] == questions[:limit]
    if limited_marks:
        rest, _, _ = await _all(str(path), sizes[0], skip=limited_marks[-1])
        assert _in_order(first + rest) == _in_order(whole)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.csv"])
async def test_a_bookmark_is_a_count_of_lines(write, read, name):
    if name.endswith("csv"):
        data = b'q,id\na,1\n"b\nb",2\nc,3\nd,4'
    else:
        data = b'{"q":"a"}\n{"q":\n"b\\nb"}\n{"q":"b\\nb"}\n{"q":"c"}\n{"q":"d"}'
    path = write(gzip.compress(data) if name.endswith("gz") else data, name)
    whole = await read(path, size=1)
    assert whole.texts == ["a", "b\nb", "c", "d"]
    assert whole.lines[-1] == 6
    rest = await read(path, skip=5)
    assert rest.texts == ["d"]
    assert rest.lines == [6]
    assert rest.description == whole.description
    assert (await read(path, skip=6)).questions == []


async def test_what_is_passed_over_is_not_parsed(write, read, monkeypatch):
    path = write('{"q": "a"}\n' * 1000 + '{"q": "b"}\n')
    parsed = []

    def loads(line):
        parsed.append(line)
        return real(line)

    real = jsonl.orjson.loads
    monkeypatch.setattr(jsonl.orjson, "loads", loads)
    assert (await read(path, skip=1000)).texts == ["b"]
    assert len(parsed) == 2  # the first line, to know the fields, and the one left


async def test_a_bookmark_past_the_end_is_refused(write, read):
    path = write('{"q": "a"}\n' * 3)
    reading = await read(path, skip=4)
    assert str(reading.error).startswith(f"{path} has 3 lines, but 4 were read before: ")


async def test_lines_added_later_are_read_from_the_bookmark(write, read):
    path = write('{"q": "a"}\n')
    assert (await read(path)).lines == [1]
    Path(path).write_text('{"q": "a"}\n{"q": "b"}\n')
    assert (await read(path, skip=1)).texts == ["b"]


async def test_batches_are_full_and_none_is_empty(write, read):
    path = write('{"q": "a"}\n\n' * 1234)
    assert (await read(path)).sizes == [500, 500, 234]
    assert (await read(path, limit=700)).sizes == [500, 200]
    assert (await read(path, limit=0)).sizes == []
