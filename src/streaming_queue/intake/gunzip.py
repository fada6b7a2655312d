"""gzip decompression of a stream (RFC 1952, any number of members), recognised by its first bytes, not by its name."""

from __future__ import annotations

import contextlib
import zlib

from streaming_queue.errors import ConfigError
from streaming_queue.intake.stream import CHUNK_BYTES, FileStream

_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31  # zlib's code for: gzip header and checksum, largest window
_SLICE_BYTES = 16 * 1024


class GunzipStream:
    """`inner` decompressed if it begins like gzip, else unchanged. All data before a fault comes, then the error."""

    def __init__(self, name: str, inner: FileStream) -> None:
        self._name = name
        self._inner = inner
        self._is_gzip: bool | None = None
        self._held = b""
        self._member = zlib.decompressobj(_GZIP_WBITS)
        self._in_member = False
        self._fault: ConfigError | None = None

    def read(self, until: float | None) -> bytes | None:
        """See `FileStream`."""
        if self._is_gzip is None and not self._detect(until):
            return None
        if self._is_gzip:
            return self._inflate(until)
        held, self._held = self._held, b""
        return held or self._inner.read(until)

    def _detect(self, until: float | None) -> bool:
        while len(self._held) < len(_MAGIC):
            data = self._inner.read(until)
            if data is None:
                return False
            if not data:
                break
            self._held += data
        self._is_gzip = self._held.startswith(_MAGIC)
        return True

    def _inflate(self, until: float | None) -> bytes | None:
        while True:
            if self._fault is not None:
                raise self._fault
            if self._held:
                if data := self._step():
                    return data
                continue
            compressed = self._inner.read(until)
            if compressed is None:
                return None
            if not compressed:
                if self._in_member:
                    raise ConfigError(f"{self._name}: the gzip data ends too early; the file is cut off, get it again")
                return b""
            self._held = compressed

    def _step(self) -> bytes:
        if not self._in_member:
            self._held = self._held.lstrip(b"\0")  # padding between members and after the last is allowed
            if not self._held:
                return b""
            self._member = zlib.decompressobj(_GZIP_WBITS)
            self._in_member = True
        before = self._member.copy()
        piece, rest = self._held[:_SLICE_BYTES], self._held[_SLICE_BYTES:]
        try:
            data = self._member.decompress(piece, CHUNK_BYTES)
        except zlib.error as error:
            self._fault = ConfigError(f"{self._name}: the gzip data is corrupt ({error}); get the file again")
            return self._salvage(before, piece)
        if self._member.eof:
            self._held, self._in_member = self._member.unused_data + rest, False
        else:
            self._held = self._member.unconsumed_tail + rest
        return data

    def _salvage(self, member: zlib._Decompress, piece: bytes) -> bytes:
        """The data in `piece` before the fault."""
        data = bytearray()
        with contextlib.suppress(zlib.error):
            for index in range(len(piece)):
                data += member.decompress(piece[index : index + 1], CHUNK_BYTES)
        return bytes(data)
