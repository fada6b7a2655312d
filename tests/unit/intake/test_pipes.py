from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streaming_queue.errors import ConfigError
from streaming_queue.intake import is_pipe, open_source
from streaming_queue.intake.source import FLUSH_S

DEADLINE_S = 5.0


class Writer:
    """The writing end of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._open = True

    def write(self, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        assert os.write(self._fd, data) == len(data)

    def close(self) -> None:
        if self._open:
            os.close(self._fd)
            self._open = False


@pytest.fixture
def stdin():
    """Standard input replaced by a pipe; gives the pipe's writing end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    kept = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    writer = Writer(writing)
    yield writer
    writer.close()
    os.dup2(kept, 0)
    os.close(kept)


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "questions"
    os.mkfifo(path)
    return str(path)


def _texts(batch) -> list[str]:
    return [question.text for question in batch.questions]


async def test_a_pipe_is_read_to_its_end(stdin, read):
    stdin.write('{"q": "a", "id": 1}\nbad\n{"q": "b"}')
    stdin.close()
    reading = await read("-")
    assert reading.texts == ["a", "b"]
    assert reading.problems[0].location == "standard input:2"
    assert reading.description == "standard input: question from 'q', id from 'id'"


async def test_standard_input_stays_open_and_is_not_rereadable(stdin):
    stdin.write('{"q": "a"}\n')
    async with await open_source("-") as source:
        assert not source.rereadable
    os.fstat(0)


async def test_a_csv_pipe_is_recognised_by_its_header(stdin, read):
    stdin.write("id,prompt\n1,a\n")
    stdin.close()
    assert (await read("-")).texts == ["a"]


async def test_a_pipe_without_anything_is_refused(stdin):
    stdin.close()
    with pytest.raises(ConfigError, match=r"^standard input is empty"):
        await open_source("-")


async def test_opening_reads_only_as_far_as_needed(stdin):
    stdin.write('bad\n{"q": "a"}\n')
    async with asyncio.timeout(DEADLINE_S), await open_source("-") as source:
        assert source.describe() == "standard input: question from 'q'"


async def test_a_pipe_that_trickles_gives_what_it_has(stdin):
    stdin.write('{"q": "0"}\n')
    async with asyncio.timeout(DEADLINE_S), await open_source("-") as source:
        batches = source.batches(500)
        for number in range(5):
            batch = await anext(batches)
            assert _texts(batch) == [str(number)]
            assert batch.lines == number + 1
            stdin.write(f'{{"q": "{number + 1}"}}\n')
        stdin.close()
        assert [_texts(batch) async for batch in batches] == [["5"]]


async def test_a_steady_trickle_is_not_gathered_for_long(stdin):
    stdin.write('{"q": "first"}\n')

    async def trickle():
        while True:
            await asyncio.sleep(FLUSH_S / 5)
            stdin.write('{"q": "more"}\n')

    async with asyncio.timeout(DEADLINE_S), await open_source("-") as source:
        task = asyncio.create_task(trickle())
        start = time.monotonic()
        batch = await anext(source.batches(500))
        assert time.monotonic() - start < 10 * FLUSH_S
        assert 1 <= len(batch.questions) < 100
        task.cancel()


@pytest.mark.parametrize(
    ("head", "tail", "texts"),
    [
        ('{"q": "a"}\n{"q": "b', 'c"}\n', (["a"], ["bc"])),
        ('q,id\na,1\n"b\n', 'c",2\n', (["a"], ["b\nc"])),
    ],
)
async def test_a_record_in_the_making_holds_back_no_other(stdin, head, tail, texts):
    stdin.write(head)
    async with asyncio.timeout(DEADLINE_S), await open_source("-") as source:
        batches = source.batches(500)
        assert _texts(await anext(batches)) == texts[0]
        stdin.write(tail)
        assert _texts(await anext(batches)) == texts[1]


async def test_a_full_pipe_gives_full_batches(stdin):
    stdin.write('{"q": "a"}\n' * 1200)
    stdin.close()
    async with await open_source("-") as source:
        assert [len(batch.questions) async for batch in source.batches(500)] == [500, 500, 200]


async def test_gzip_comes_through_a_pipe_byte_by_byte(stdin, read):
    async def feed():
        for byte in gzip.compress(b'{"q": "a"}\n{"q": "b"}\n'):
            stdin.write(bytes([byte]))
            await asyncio.sleep(0)
        stdin.close()

    task = asyncio.create_task(feed())
    assert (await read("-")).texts == ["a", "b"]
    await task


async def test_a_cancelled_read_of_a_silent_pipe_ends_at_once(stdin):
    stdin.write('{"q": "a"}\n')
    async with await open_source("-") as source:
        batches = source.batches()
        await anext(batches)
        task = asyncio.create_task(anext(batches))
        await asyncio.sleep(FLUSH_S)
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await source.close()
        assert source._reading.done()
        assert time.monotonic() - start < 0.5


async def test_closing_ends_a_read_of_a_silent_pipe(stdin):
    stdin.write('{"q": "a"}\n')
    source = await open_source("-")
    batches = source.batches()
    await anext(batches)
    task = asyncio.create_task(anext(batches, None))
    await asyncio.sleep(FLUSH_S)
    async with asyncio.timeout(0.5):
        await source.close()
        assert await task is None


async def test_opening_a_fifo_without_a_writer_can_be_cancelled(fifo):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * FLUSH_S):
            await open_source(fifo)


async def test_a_fifo_waits_for_its_writer(fifo, read):
    task = asyncio.create_task(read(fifo))
    await asyncio.sleep(FLUSH_S)
    assert not task.done()
    writer = Writer(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    writer.write('{"q": "a"}\n')
    writer.close()
    async with asyncio.timeout(DEADLINE_S):
        assert (await task).texts == ["a"]


async def test_a_fifo_is_not_rereadable(fifo):
    opening = asyncio.create_task(open_source(fifo))
    await asyncio.sleep(FLUSH_S)
    writer = Writer(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    writer.write('{"q": "a"}\n')
    async with asyncio.timeout(DEADLINE_S), await opening as source:
        assert not source.rereadable
    writer.close()


async def test_a_terminal_is_read_line_by_line():
    master, slave = os.openpty()
    try:
        os.write(master, b'{"q": "a"}\n')
        async with asyncio.timeout(DEADLINE_S), await open_source(os.ttyname(slave)) as source:
            batches = source.batches()
            assert _texts(await anext(batches)) == ["a"]
            os.write(master, b'{"q": "b"}\n\x04')
            assert [_texts(batch) async for batch in batches] == [["b"]]
    finally:
        os.close(master)
        os.close(slave)


READ_ONE_THEN_CANCEL = """
import asyncio
from streaming_queue.intake import is_pipe, open_source

async def main():
    source = await open_source("-")
    async for batch in source.batches():
        print(batch.questions[0].text, flush=True)

async def cancelled():
    await asyncio.wait_for(main(), 0.3)

try:
    asyncio.run(cancelled())
except TimeoutError:
    print("cancelled", flush=True)
"""


def _python(code: str, **options) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, **options)


def test_a_process_that_waits_on_standard_input_can_exit():
    with _python(READ_ONE_THEN_CANCEL, stdin=subprocess.PIPE) as process:
        process.stdin.write(b'{"q": "a"}\n')
        process.stdin.flush()
        assert process.wait(timeout=20) == 0  # its standard input is still open
        assert process.stdout.read() == b"a\ncancelled\n"


def test_a_closed_standard_input_is_refused():
    code = "import asyncio; from streaming_queue.intake import is_pipe, open_source; asyncio.run(open_source('-'))"
    command = f'exec {sys.executable} -c "{code}" <&-'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, timeout=20, check=False)
    assert b"ConfigError: standard input is closed; give a JSONL or CSV file" in done.stderr


def test_a_file_as_standard_input_is_read(write):
    path = write('{"q": "a"}\n')
    with Path(path).open("rb") as file, _python(READ_ONE_THEN_CANCEL, stdin=file) as process:
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == b"a\n"


def test_what_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert is_pipe("-")
    assert is_pipe(str(tmp_path / "fifo"))
    assert not is_pipe(None)
    assert not is_pipe(str(tmp_path))
    assert not is_pipe("nowhere")
