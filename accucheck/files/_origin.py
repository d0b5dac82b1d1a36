"""Where the bytes come from: a file, standard input spooled to disk, or standard input as it comes.

The output pass reads the input a second time, so standard input is copied to a temporary file first. Rows
that are answered as they come need no second pass: there standard input is read live.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from accucheck.files._compression import Compression, by_magic, decompressed
from accucheck.files._errors import FileError, translate_errors

__all__ = ["HEAD_SIZE", "LiveOrigin", "Origin", "StoredOrigin", "live_or_spooled"]

HEAD_SIZE = 64 * 1024
_HEAD_LINES = 20
_LONGEST_HEAD = 16 << 20
_BUFFER = 256 * 1024


class Origin(Protocol):
    """Bytes of one input."""

    name: str
    """For messages: the path as it was given, or ``stdin``."""
    path: Path | None
    """The file to open, for libraries that open files themselves; None if there is none."""
    head: bytes
    """The first bytes, decompressed: 64 KiB, or less if that is all, or more where lines are long."""
    repeatable: bool
    """Whether ``open`` may be called more than once."""

    @property
    def fraction(self) -> float:
        """How far the stream that was opened last has been read, 0 to 1."""
        ...

    def open(self) -> BinaryIO:
        """Return the decompressed bytes from their start."""
        ...

    def close(self) -> None:
        """Drop what was made for reading."""
        ...


class StoredOrigin:
    """A file on disk, or a copy of standard input on disk."""

    repeatable = True

    def __init__(self, path: Path, name: str) -> None:
        self.path: Path | None = path
        self._path = path
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
    """Numbers are personal data: where the system allows, the copy has no name, and goes with the process."""

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


class LiveOrigin:
    """A stream that is read once, as it comes: whoever writes it sees its rows answered before it ends."""

    path: Path | None = None
    repeatable = False
    fraction = 0.0

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

    def close(self) -> None:
        """Nothing was made."""


_READ_FROM_THE_END = (b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""What Parquet, .xlsx and .xls begin with: their index is at their end."""


def live_or_spooled(stream: BinaryIO) -> Origin:
    """Return standard input as it comes or, for formats that need all of it first, a copy on disk."""
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
    """The bytes that were looked at, then the rest."""

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
