"""Where the bytes come from: a file, standard input spooled to disk, or standard input as it arrives.

The errors of reading and writing them are here too: what libraries and the system raise becomes a ``FileError``.
Writing the output reads the input a second time, so standard input is first copied to a temporary file. Rows that are
answered as they arrive need no second pass, so standard input is then read live.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from accucheck._errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "HEAD_SIZE",
    "SUFFIXES",
    "TORN_ARCHIVE",
    "Compression",
    "FileError",
    "LiveOrigin",
    "Origin",
    "OutputError",
    "StoredOrigin",
    "by_magic",
    "compressed",
    "decompressed",
    "live_or_spooled",
    "needs",
    "translate_errors",
    "translate_output_errors",
]

TORN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What ``zipfile`` raises for archives that are damaged, protected or unsupported."""


class FileError(ConfigurationError):
    """A file cannot be read or written; the message names it and says what to do."""

    status = "FILE_ERROR"


class OutputError(FileError):
    """The system does not allow writing the output: no space, no permission, no directory, a read-only disk."""

    status = "OUTPUT_ERROR"


def needs(extra: str, what: str) -> FileError:
    """Return the error for a format whose library is not installed."""
    return FileError(f"{what} needs an extra package: pip install 'accucheck[{extra}]'")


@contextmanager
def translate_errors(name: str, *also: type[Exception]) -> Iterator[None]:
    """Turn what reading or writing ``name`` can raise (and the exceptions ``also``) into a FileError."""
    try:
        yield
    except (FileError, BrokenPipeError):
        raise  # the reader of our output closed the pipe, which is not an error: the caller ends quietly
    except UnicodeError as error:
        raise FileError(
            f"{name}: the text does not match its encoding ({error}); set the right one with --encoding"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        known = (said for kind, said in _SAID.items() if isinstance(error, kind))
        raise FileError(
            f"{name}: {next(known, None) or getattr(error, 'strerror', None) or error}"
        ) from error
    except also as error:
        detail = " ".join(str(error).split())[:200]
        raise FileError(f"{name}: the file is damaged or is not what its name says ({detail})") from error


_DAMAGED = "the compressed data is damaged or cut off; copy the file again"
_SAID: dict[type[Exception], str] = {
    FileNotFoundError: "no such file or directory",
    IsADirectoryError: "this is a directory, not a file",
    PermissionError: "permission denied",
    EOFError: _DAMAGED,
    zlib.error: _DAMAGED,
}


@contextmanager
def translate_output_errors(name: str) -> Iterator[None]:
    """Like ``translate_errors`` for the output ``name``, but a refusal by the system is an ``OutputError``."""
    try:
        with translate_errors(name):
            yield
    except FileError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, IsADirectoryError):
            raise OutputError(str(error)) from cause
        raise


HEAD_SIZE = 64 * 1024
_HEAD_LINES = 20
_LONGEST_HEAD = 16 << 20
_BUFFER = 256 * 1024


class Origin(ABC):
    """Bytes of one input."""

    name: str
    """For messages: the path as it was given, or ``stdin``."""
    path: Path | None = None
    """The file to open, for libraries that open files themselves; None if there is none."""
    head: bytes
    """The first bytes, decompressed: 64 KiB, or less if that is all, or more where lines are long."""
    repeatable = True
    """Whether ``open`` may be called more than once."""

    @property
    def fraction(self) -> float:
        """How far the stream that was opened last has been read, 0 to 1; 0 if that is not known."""
        return 0.0

    @abstractmethod
    def open(self) -> BinaryIO:
        """Return the decompressed bytes from their start."""

    def close(self) -> None:  # noqa: B027 (a live one has made nothing)
        """Drop what was made for reading."""


class StoredOrigin(Origin):
    """A file on disk, or a copy of standard input on disk."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = self._path = path
        self.name = name
        self._raw: BinaryIO | None = None
        with translate_errors(name):
            if path.is_dir():
                raise IsADirectoryError
            with path.open("rb") as raw:
                if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
                    raise FileError(f"{name}: not a regular file; pipe it to standard input and pass '-'")
                magic = raw.read(4)
                self._size = os.fstat(raw.fileno()).st_size
        if not self._size:
            raise FileError(f"{name}: the file is empty")
        self._compression: Compression | None = by_magic(magic)
        with translate_errors(name), self.open() as plain:
            self.head = _first_lines(plain)

    @classmethod
    def spooled(cls, stream: BinaryIO, name: str = "stdin") -> StoredOrigin:
        """Copy a stream to a private temporary file (mode 0600) and return that."""
        with translate_errors(f"the copy of {name} in the temporary directory"):
            descriptor, path = tempfile.mkstemp(prefix="accucheck-stdin-")
            try:
                with open(descriptor, "wb", closefd=False) as spool:
                    shutil.copyfileobj(stream, spool, _BUFFER)
            except BaseException:
                os.close(descriptor)
                os.unlink(path)
                raise
        return _SpooledOrigin(descriptor, Path(path), name)

    @property
    def fraction(self) -> float:
        if self._raw is None:
            return 0.0
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)

    def open(self) -> BinaryIO:
        with translate_errors(self.name):
            self._raw = self._path.open("rb", buffering=_BUFFER)
            return decompressed(self._raw, self._compression)

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()


class _SpooledOrigin(StoredOrigin):
    """Numbers are personal data: if the system allows it, the copy has no name and disappears with the process."""

    def __init__(self, descriptor: int, path: Path, name: str) -> None:
        self._descriptor = descriptor
        self._leftover: Path | None = path
        by_descriptor = Path(f"/proc/self/fd/{descriptor}")
        if by_descriptor.exists():
            path.unlink()
            path, self._leftover = by_descriptor, None
        try:
            super().__init__(path, name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if getattr(self, "_raw", None) is not None:
            super().close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._leftover is not None:
            self._leftover.unlink(missing_ok=True)
            self._leftover = None


class LiveOrigin(Origin):
    """A stream that is read once, as it arrives, so that its rows are answered before it ends."""

    repeatable = False

    def __init__(self, stream: BinaryIO, name: str = "stdin") -> None:
        self.name = name
        with translate_errors(name):
            magic = _beginning(stream, 4)
            kind = by_magic(magic)
            plain = decompressed(_rejoined(magic, stream), kind)
            self.head = _beginning(plain, _LONGEST_HEAD, enough=b"\n")
            self._plain = _rejoined(self.head, plain)
        if not self.head:
            raise FileError(f"{name}: there is no input")

    def open(self) -> BinaryIO:
        return self._plain


_READ_FROM_THE_END = (b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""The first bytes of Parquet, .xlsx and .xls, whose index is at the end."""


def live_or_spooled(stream: BinaryIO) -> Origin:
    """Return standard input live or, for formats that need all of it first, a copy on disk."""
    magic = _beginning(stream, 4)
    whole = _rejoined(magic, stream)
    return StoredOrigin.spooled(whole) if magic in _READ_FROM_THE_END else LiveOrigin(whole)


def _first_lines(stream: BinaryIO) -> bytes:
    """Read 64 KiB, and on to the end of some lines: the header of a wide list can be longer than that."""
    head = stream.read(HEAD_SIZE)
    while max(head.count(b"\n"), head.count(b"\r")) < _HEAD_LINES and len(head) < _LONGEST_HEAD:
        more = stream.read(min(len(head), _LONGEST_HEAD - len(head)))
        if not more:
            break
        head += more
    return head


def _beginning(stream: BinaryIO, size: int, enough: bytes | None = None) -> bytes:
    """Read ``size`` bytes, or less at the end, or once two lines have come: more may be long in coming."""
    read = getattr(stream, "read1", stream.read)
    head = b""
    while len(head) < size and (enough is None or head.count(enough) < 2):
        chunk = read(min(HEAD_SIZE, size - len(head)))
        if not chunk:
            break
        head += chunk
    return head


def _rejoined(head: bytes, rest: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_Rejoined(head, rest), _BUFFER))


class _Rejoined(io.RawIOBase):
    """The bytes already looked at, then the rest."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        target = memoryview(buffer).cast("B")
        if self._head:
            chunk: bytes | memoryview = self._head[: len(target)]
            self._head = self._head[len(chunk) :]
        else:
            chunk = getattr(self._rest, "read1", self._rest.read)(len(target))
        target[: len(chunk)] = chunk
        return len(chunk)


Compression = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}

_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

# What one step reads of a zstd file: small, because a few bytes can stand for a block of 128 KiB.
_ZSTD_STEP = 16 * 1024


def by_magic(head: bytes) -> Compression | None:
    """Return the compression that the first bytes announce."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def decompressed(raw: BinaryIO, kind: Compression | None) -> BinaryIO:
    """Return a buffered stream of the decompressed bytes. A truncated one raises EOFError at its end."""
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
    """Reads frame after frame; unlike the library's own reader, it does not accept a truncated file."""

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
