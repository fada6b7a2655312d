"""Peers that speak just enough HTTP/2 for a client of gRPC to send its request, and then do as they please."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Act = Callable[[int, asyncio.StreamWriter], Awaitable[None]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
OK = {":status": "200", "content-type": "application/grpc"}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(stream: int, fields: dict[str, str], *, end: bool = True) -> bytes:
    """A HEADERS frame; each field is a literal that is not indexed (RFC 7541, 6.2.2)."""
    block = b"".join(b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in fields.items())
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def after_the_request(act: Act) -> Serve:
    """A peer that does `act(stream, writer)` for each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PREFACE))
        writer.write(frame(SETTINGS, 0, 0))
        while True:
            try:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
            except asyncio.IncompleteReadError:
                return
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == SETTINGS and not flags & ACK:
                writer.write(frame(SETTINGS, ACK, 0))
            if flags & END_STREAM and kind in (DATA, HEADERS):
                await act(stream, writer)
                if writer.is_closing():
                    return

    return serve


def says(say: Callable[[int], bytes], *, and_closes: bool = False) -> Serve:
    """A peer that says `say(stream)` to each request."""

    async def act(stream: int, writer: asyncio.StreamWriter) -> None:
        writer.write(say(stream))
        await writer.drain()
        if and_closes:
            writer.close()

    return after_the_request(act)


async def _reset(stream: int, writer: asyncio.StreamWriter) -> None:
    del stream
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def goaway(last: int, error: int) -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, error))


def rst(error: int) -> Serve:
    """A peer that resets each call."""
    return says(lambda stream: frame(RST_STREAM, 0, stream, struct.pack(">I", error)))


LOST = {
    "closes": says(lambda _: b"", and_closes=True),
    "resets": after_the_request(_reset),
    "goes away before the call": says(lambda _: goaway(0, 0)),
    "goes away in the call": says(lambda stream: goaway(stream, 2), and_closes=True),
    "ends the call": rst(0),
    "fails the call": rst(2),
    "refuses the call": rst(7),
    "cancels the call": rst(8),
    "wants calm": rst(11),
}
"""Peers that lose a call without a word of gRPC."""

SPEAKS_ANOTHER = {
    "mail": says(lambda _: b"220 mail.example ESMTP ready\r\n" * 3, and_closes=True),
    "HTTP/1": says(lambda _: b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n" * 3, and_closes=True),
    "garbage": says(lambda _: b"\x00\xff" * 5000, and_closes=True),
    "garbage, and stays": says(lambda _: b"\xff" * 5000),
    "headers that are none": says(lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\xff" * 6)),
}
"""Peers that begin to speak something else in the middle; whether that or the end is seen first is a race."""

NO_GRPC = {
    "a page": says(
        lambda stream: (
            headers(stream, {":status": "200", "content-type": "text/html"}, end=False)
            + frame(DATA, END_STREAM, stream, b"<html>")
        )
    ),
    "an empty page": says(lambda stream: headers(stream, {":status": "200", "content-type": "text/html"})),
    "an error of a web server": says(lambda stream: headers(stream, {":status": "500"})),
    "no status": says(lambda stream: headers(stream, OK)),
    "half a message": says(
        lambda stream: headers(stream, OK, end=False) + frame(DATA, END_STREAM, stream, b"\0\0\0\0\x09ab")
    ),
    "a message compressed by nothing": says(
        lambda stream: headers(stream, OK, end=False) + frame(DATA, END_STREAM, stream, b"\x01\0\0\0\x02ab")
    ),
    "a message too large": says(lambda stream: headers(stream, OK, end=False) + frame(DATA, 0, stream, b"\0\7\0\0\0")),
    "a status that is no number": says(lambda stream: headers(stream, {**OK, "grpc-status": "x"})),
}
"""Peers that speak HTTP/2, but what they answer is no answer of gRPC."""


def answers(status: int, text: str | None = None) -> Serve:
    """A gRPC server that answers each call with a status, and with no metadata of its own."""
    fields = {**OK, "grpc-status": str(status)}
    return says(lambda stream: headers(stream, fields if text is None else {**fields, "grpc-message": text}))
