"""Is a source still the one that was read? A check of each line tells."""

from __future__ import annotations

import asyncio
import zlib

from streaming_queue.intake.gunzip import GunzipStream
from streaming_queue.intake.lines import LineBuffer
from streaming_queue.intake.stream import FileStream
from streaming_queue.messages import SourceChecks

SIZE = SourceChecks.SIZE


def check_of(line: bytes | None) -> bytes:
    r"""The CRC-32 of a line without its line end. None, a line that is too long, counts as empty."""
    return zlib.crc32(b"" if line is None else line.removesuffix(b"\r")).to_bytes(SIZE, "little")


async def first_difference(path: str, checks: bytes) -> int | None:
    """The first line, counted from 1, at which the file is not what `checks` say; None if it begins with those lines.

    It is the line after the last one if the file is too short.

    Raises:
        ConfigError: the file cannot be read.
    """
    stream = FileStream(path, path)
    comparing = asyncio.ensure_future(asyncio.to_thread(_compare, path, stream, checks))
    comparing.add_done_callback(lambda _: stream.close())
    try:
        return await asyncio.shield(comparing)
    finally:
        stream.stop()


def _compare(path: str, stream: FileStream, checks: bytes) -> int | None:
    stream.open()
    data = GunzipStream(path, stream)
    buffer = LineBuffer()
    line = 0
    while line * SIZE < len(checks):
        piece = data.read(None)
        found = b"".join(map(check_of, buffer.feed(piece) if piece else buffer.finish()))
        expected = checks[line * SIZE : line * SIZE + len(found)]
        if found[: len(expected)] != expected:
            pairs = zip(found, expected, strict=False)
            return line + 1 + next(i for i, (one, other) in enumerate(pairs) if one != other) // SIZE
        line += len(found) // SIZE
        if not piece:
            break
    return line + 1 if line * SIZE < len(checks) else None
