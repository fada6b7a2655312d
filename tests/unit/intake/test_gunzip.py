from __future__ import annotations

import gzip
import random
import zlib

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.intake import open_source

LINES = 5000


@pytest.fixture(scope="module")
def plain() -> bytes:
    shuffled = random.Random(1)
    return b"".join(b'{"q": "%d %032x"}\n' % (number, shuffled.getrandbits(128)) for number in range(LINES))


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.jsonl", "in.gz", "in"])
async def test_gzip_is_recognised_by_its_first_bytes(write, read, plain, name):
    reading = await read(write(gzip.compress(plain), name))
    assert len(reading.questions) == LINES
    assert reading.problems == []


async def test_a_name_like_gzip_on_a_plain_file_does_no_harm(write, read):
    assert (await read(write('{"q": "a"}\n', "in.jsonl.gz"))).texts == ["a"]


async def test_csv_in_gzip(write, read):
    data = gzip.compress(b'\xef\xbb\xbfid,prompt\r\n1,"a\r\nb"\r\n')
    for name in ("in.csv.gz", "in.csv", "in"):
        assert (await read(write(data, name))).texts == ["a\r\nb"]


@pytest.mark.parametrize("padding", [b"", b"\0" * 700])
async def test_members_follow_one_another(write, read, plain, padding):
    middle = len(plain) // 2
    data = gzip.compress(plain[:middle]) + padding + gzip.compress(b"") + gzip.compress(plain[middle:]) + padding
    reading = await read(write(data, "in.jsonl.gz"))
    assert len(reading.questions) == LINES


async def test_a_file_cut_off_is_said_after_what_was_readable(write, read, plain):
    data = gzip.compress(plain)
    path = write(data[: len(data) // 2], "in.jsonl.gz")
    reading = await read(path)
    assert reading.texts == [line[7:-2].decode() for line in plain.splitlines()[: len(reading.texts)]]
    assert LINES * 0.45 < len(reading.texts) < LINES * 0.55
    assert str(reading.error) == f"{path}: the gzip data ends too early; the file is cut off, get it again"


async def test_a_corrupt_file_is_said_after_what_was_readable(write, read, plain):
    compressor = zlib.compressobj(wbits=31)
    half = compressor.compress(plain[: len(plain) // 2]) + compressor.flush(zlib.Z_FULL_FLUSH)
    path = write(half + b"\xff" * 5000, "in.jsonl.gz")
    reading = await read(path)
    assert len(reading.texts) == plain[: len(plain) // 2].count(b"\n")
    assert str(reading.error).startswith(f"{path}: the gzip data is corrupt (")
    assert str(reading.error).endswith("); get the file again")


async def test_a_wrong_checksum_is_said(write, read):
    data = bytearray(gzip.compress(b'{"q": "a"}\n'))
    data[-8] ^= 1
    reading = await read(write(bytes(data), "in.jsonl.gz"))
    assert reading.texts == ["a"]
    assert "incorrect data check" in str(reading.error)


async def test_something_else_after_the_end_is_said(write, read):
    reading = await read(write(gzip.compress(b'{"q": "a"}\n') + b"garbage", "in.jsonl.gz"))
    assert reading.texts == ["a"]
    assert "the gzip data is corrupt" in str(reading.error)


CUT_OFF = gzip.compress(b'{"q": "a"}\n', mtime=0)[:-20]  # the time of day would make it a test of another name


@pytest.mark.parametrize("data", [b"\x1f\x8b", b"\x1f\x8b" + b"x" * 50, CUT_OFF])
async def test_broken_before_the_first_question_is_refused(write, data):
    path = write(data, "in.jsonl.gz")
    with pytest.raises(ConfigError, match="the gzip data") as error:
        await open_source(path)
    assert str(error.value).startswith(path)


async def test_an_empty_file_in_gzip_is_empty(write):
    with pytest.raises(ConfigError, match="is empty"):
        await open_source(write(gzip.compress(b""), "in.jsonl.gz"))
