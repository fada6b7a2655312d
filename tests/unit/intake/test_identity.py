"""A source that was changed is found at its first changed line, however it is stored and read."""

from __future__ import annotations

import gzip
import json
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_queue.errors import ConfigError
from streaming_queue.intake import first_difference, open_source
from streaming_queue.intake.identity import check_of
from streaming_queue.intake.lines import MAX_LINE_BYTES
from streaming_queue.messages import SourceChecks

LINES = st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=8)
EDITS = st.lists(st.tuples(st.sampled_from(["edit", "delete", "insert", "swap", "cut", "append"]), st.integers(0, 99)))


def edited(lines: list[bytes], edits: list[tuple[str, int]]) -> list[bytes]:
    lines = list(lines)
    for verb, number in edits:
        place = number % (len(lines) + 1)
        if verb == "append":
            lines.append(b"more %d" % number)
        elif verb == "insert":
            lines.insert(place, b"new %d" % number)
        elif place < len(lines):
            if verb == "edit":
                lines[place] += b"!"
            elif verb == "delete":
                del lines[place]
            elif verb == "cut":
                del lines[place:]
            else:
                lines[place], lines[-1] = lines[-1], lines[place]
    return lines


@given(LINES, EDITS, st.tuples(st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.booleans()))
@settings(max_examples=200, deadline=None)
async def test_it_is_the_first_line_that_was_edited_deleted_inserted_or_moved(tmp_path_factory, lines, edits, form):
    end, zipped, closed = form
    now = edited(lines, edits)
    data = end.join(now) + (end if closed and now else b"")
    path = tmp_path_factory.getbasetemp() / "source"
    path.write_bytes(gzip.compress(data) if zipped else data)
    if now and not closed and not now[-1]:
        now = now[:-1]  # an empty line without an end is no line
    pairs = list(zip_longest(lines, now))[: len(lines)]
    expected = next((number for number, (one, other) in enumerate(pairs, 1) if one != other), None)
    assert await first_difference(str(path), b"".join(map(check_of, lines))) == expected


async def test_lines_over_the_limit_are_compared_in_place_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n" + b"x" * (MAX_LINE_BYTES + 1) + b"\ntwo\n")
    assert await first_difference(str(path), b"".join(map(check_of, (b"one", None, b"two")))) is None
    assert await first_difference(str(path), b"".join(map(check_of, (b"one", b"two")))) == 2


async def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await first_difference(str(tmp_path / "none"), check_of(b"x"))


@pytest.mark.parametrize("skip", range(9))
@pytest.mark.parametrize("size", [1, 3, 500])
async def test_the_batches_carry_the_checks_of_their_lines(tmp_path: Path, skip: int, size: int) -> None:
    lines = [b"", b"bad", *(json.dumps({"q": f"{n}?"}).encode() for n in range(4)), b"[]", b'{"q": "last?"}', b" "]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    stored, read = bytearray(b"".join(map(check_of, lines[:skip]))), skip
    async with await open_source(path, skip=skip) as source:
        async for batch in source.batches(size):
            assert batch.checks
            assert batch.checks.lines == read
            batch.checks.put_into(stored)
            read = batch.lines
            assert stored == b"".join(map(check_of, lines[:read]))
    assert read == 8
    assert len(stored) == 8 * SourceChecks.SIZE


async def test_the_checks_of_a_table_include_its_header_and_each_line_of_a_row(tmp_path: Path) -> None:
    lines = [b"id,question", b'a,"one', b'more"', b"b,two"]
    path = tmp_path / "a.csv"
    path.write_bytes(b"\r\n".join(lines) + b"\r\n")
    async with await open_source(path) as source:
        (batch,) = [batch async for batch in source.batches()]
    assert batch.checks == SourceChecks(0, b"".join(map(check_of, lines)))
