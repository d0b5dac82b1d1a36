"""gzip and zstd, told by their first bytes, read as a stream and written as a stream."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from accucheck.files._errors import needs

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["SUFFIXES", "Compression", "by_magic", "compressed", "decompressed"]

Compression = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}

_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

# What one step reads of a zstd file: small, because a few bytes can stand for a block of 128 KiB.
_ZSTD_STEP = 16 * 1024
_BUFFER = 256 * 1024


def by_magic(head: bytes) -> Compression | None:
    """Return the compression that the first bytes announce."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def decompressed(raw: BinaryIO, kind: Compression | None) -> BinaryIO:
    """Return a buffered stream of the plain bytes. A torn stream raises EOFError when its end is reached."""
    if kind == "gzip":
        return cast("BinaryIO", io.BufferedReader(cast("Any", _GzipReader(raw)), _BUFFER))
    if kind == "zstd":
        return io.BufferedReader(_ZstdReader(raw), _BUFFER)
    return raw


def compressed(raw: BinaryIO, kind: Compression | None) -> BinaryIO:
    """Return a stream that compresses into ``raw``. Closing it ends the frame and leaves ``raw`` open.

    The same rows give the same bytes: no time and no file name goes into the header.
    """
    if kind == "gzip":
        stream = gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
        return cast("BinaryIO", io.BufferedWriter(cast("Any", stream), _BUFFER))
    if kind == "zstd":
        compressor = _zstandard().ZstdCompressor(level=3, write_checksum=True)
        return cast("BinaryIO", io.BufferedWriter(compressor.stream_writer(raw, closefd=False), _BUFFER))
    return raw


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise needs("zstd", "zstd") from error
    return zstandard


class _GzipReader(gzip.GzipFile):
    """Closes the file below with itself, which the library leaves open."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__(fileobj=source, mode="rb")
        self._source = source

    def close(self) -> None:
        super().close()
        self._source.close()


class _ZstdReader(io.RawIOBase):
    """Reads frame after frame; unlike the library's own reader it does not take a torn file for whole."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._library = _zstandard()
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._ready:
            chunk = self._source.read(_ZSTD_STEP)
            if not chunk:
                if self._frame is not None:
                    raise EOFError("the last zstd frame is incomplete")
                return 0
            self._ready = memoryview(self._decompress(chunk))
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decompress(self, chunk: bytes) -> bytes:
        plain = []
        while chunk:
            if self._frame is None:
                self._frame = self._library.ZstdDecompressor().decompressobj()
            try:
                plain.append(self._frame.decompress(chunk))
            except self._library.ZstdError as error:
                raise EOFError(str(error)) from error
            if not self._frame.eof:
                break
            chunk = self._frame.unused_data
            self._frame = None
        return b"".join(plain)

    def close(self) -> None:
        self._source.close()
        super().close()
