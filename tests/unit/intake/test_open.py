from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.intake import open_source
from streaming_queue.intake.names import LOOKED_FOR
from streaming_queue.intake.source import MAX_UNUSABLE


async def test_the_mapping_is_described(write):
    path = write('{"x": 1}\n{"query": "a", "id": "1", "answer": "b"}\n')
    async with await open_source(path) as source:
        assert source.describe() == f"{path}: question from 'query', id from 'id', reference from 'answer'"
        assert source.name == path
        assert source.rereadable


async def test_a_path_object_will_do(tmp_path, write):
    write('{"q": "a"}')
    async with await open_source(tmp_path / "in.jsonl") as source:
        assert source.name == str(tmp_path / "in.jsonl")


async def test_the_bundled_set_is_read_when_nothing_is_named(read):
    reading = await read(None, limit=3)
    assert reading.description == "bundled questions: question from 'question', id from 'id', reference from 'answer'"
    assert [question.id for question in reading.questions] == ["q001", "q002", "q003"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.jsonl", "there is no such file; give a JSONL or CSV file, or - for standard input"),
        ("", "there is no such file"),
        (".", "is a directory; give a JSONL or CSV file in it"),
        ("in.jsonl/child", "cannot be read: Not a directory"),
        ("nul\0byte", "cannot be read: embedded null byte"),
        ("x" * 300, "cannot be read: File name too long"),
    ],
)
async def test_what_cannot_be_opened_is_refused(write, tmp_path, monkeypatch, name, reason):
    write('{"q": "a"}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        await open_source(name)
    assert reason in str(error.value)
    assert str(error.value).startswith(name or "''")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
async def test_a_file_that_fails_to_be_read_is_refused():
    with pytest.raises(ConfigError, match="/proc/self/mem cannot be read: Input/output error"):
        await open_source("/proc/self/mem")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
async def test_a_file_without_permission_is_refused(write):
    path = write('{"q": "a"}')
    Path(path).chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        await open_source(path)


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\xc2\xa0\n\t"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in"])
async def test_an_empty_file_is_refused(write, data, name):
    path = write(data, name)
    with pytest.raises(ConfigError, match="is empty: give JSONL, one object a line, or CSV with a header") as error:
        await open_source(path)
    assert str(error.value).startswith(path)


async def test_a_file_without_the_field_names_what_was_looked_for_and_what_is_there(write):
    path = write('{"title": "a", "body": "b"}\n{"title": "c", "tags": []}\n')
    with pytest.raises(ConfigError) as error:
        await open_source(path)
    assert str(error.value) == (
        f"{path} has no usable question: looked for text in a field named {LOOKED_FOR} "
        f"(in any case) and found the fields 'title', 'body', 'tags'. First of 2: {path}:1: no question: "
        f"looked for {LOOKED_FOR}, found 'title', 'body'."
    )


async def test_a_file_without_any_record_says_why(write):
    path = write("What is 2 + 2?\n", "in.txt")
    with pytest.raises(ConfigError) as error:
        await open_source(path)
    assert "found no fields. First of 1: " in str(error.value)
    assert f"{path}:1: not JSON" in str(error.value)


async def test_an_array_of_objects_is_refused_with_the_remedy(write):
    with pytest.raises(ConfigError, match=r"write one object a line, as `jq -c '.\[\]'` does"):
        await open_source(write(json.dumps([{"q": "a"}, {"q": "b"}]), "in.json"))


async def test_bad_lines_before_the_first_question_are_kept(write, read):
    path = write("bad\n" * 700 + '{"q": "a"}\n')
    reading = await read(path, size=500)
    assert reading.texts == ["a"]
    assert reading.locations == [f"in.jsonl:{number}" for number in range(1, 701)]
    assert reading.lines == [500, 701]


async def test_a_source_that_begins_with_very_many_bad_lines_is_refused(write):
    path = write("bad\n" * MAX_UNUSABLE + '{"q": "a"}\n')
    with pytest.raises(ConfigError, match=f"has no usable question so far: .* First of {MAX_UNUSABLE}: "):
        await open_source(path)


async def test_strict_refuses_at_opening_when_the_first_line_is_bad(write):
    path = write('bad\n{"q": "a"}\n')
    with pytest.raises(ConfigError, match=":1: not JSON: "):
        await open_source(path, strict=True)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
async def test_a_refused_source_leaves_no_file_open(write):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (write("bad\n"), write("", "empty"), "missing", "."):
        with pytest.raises(ConfigError):
            await open_source(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_closing_is_idempotent_and_ends_the_batches(write):
    source = await open_source(write('{"q": "a"}\n' * 300_000))
    batches = source.batches(10)
    assert len((await anext(batches)).questions) == 10
    await source.close()
    await source.close()
    rest = [batch async for batch in batches]
    assert sum(len(batch.questions) for batch in rest) < 290_000
