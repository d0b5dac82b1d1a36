"""Lists and outputs in object stores and at other addresses: ``s3://…``, ``gs://…``, and others that fsspec supports.

Like standard input, an input is copied to an unnamed temporary file, because it is read twice, and Parquet and Excel
from the end. An output is written to a temporary file and uploaded at the end. Object stores show an object only once
it is complete; other stores get it under another name first. Credentials are those of the store's own tools (AWS_… and
profiles, Google's application default credentials, ``FSSPEC_…``), never part of the address.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from urllib.parse import urlsplit

from accucheck.files._origin import FileError, OutputError, needs

__all__ = [
    "RemoteFile",
    "addresses",
    "fingerprint",
    "full_name",
    "is_remote",
    "local_name",
    "opened",
]

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BUFFER: Final = 1 << 20
_OTHER_PACKAGES: Final = re.compile(
    r"[Ii]nstall ([A-Za-z0-9_-]+)|[Pp]lease install (?:the )?([A-Za-z0-9_-]+)"
)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is an address such as ``s3://bucket/leads.csv`` and not a local path."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def full_name(path: str) -> str:
    """Return a name of the file that holds from any folder."""
    return path if is_remote(path) else os.path.realpath(path)


def local_name(path: str) -> Path:
    """Return a local path: ``path`` itself, or for an address its last part, in the current folder."""
    if not is_remote(path):
        return Path(path)
    _refuse_secrets(path)
    return Path(path.rpartition("/")[2] or "list")


@contextmanager
def opened(address: str) -> Iterator[BinaryIO]:
    """Yield the bytes at ``address``.

    Raises:
        FileError: There is nothing, the store cannot be reached, or its package is not installed.
    """
    system, path = _file_system(address)
    with _translated(address, FileError), system.open(path, "rb") as stream:
        yield stream


def addresses(pattern: str) -> list[str]:
    """Return the addresses that match a pattern such as ``s3://bucket/leads/*.csv``, in order."""
    system, path = _file_system(pattern)
    with _translated(pattern, FileError):
        return sorted(system.unstrip_protocol(found) for found in system.glob(path))


def fingerprint(address: str) -> list[Any] | None:
    """Return what changes when the object does, or None if there is none.

    Raises:
        OutputError: The store cannot be asked.
    """
    system, path = _file_system(address)
    with _translated(address, OutputError):
        try:
            system.invalidate_cache()
            found = system.info(path)
        except FileNotFoundError:
            return None
    if found.get("type") != "file":
        return None
    changed = next(
        (found[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if key in found), ""
    )
    return [found.get("size"), str(changed)]


class RemoteFile:
    """An output at an address, written to a temporary file and uploaded by ``commit``; otherwise like ``AtomicFile``.

    Raises:
        OutputError: The store cannot be reached, or has no such bucket.
    """

    def __init__(self, address: str) -> None:
        self.name = address
        self._system, self._path = _file_system(address)
        fingerprint(address)  # a store that cannot be reached is noticed before anything is bought
        bucket, _, key = self._path.strip("/").partition("/")
        if key and self._system.protocol in (("s3", "s3a"), ("gs", "gcs")):
            with _translated(address, OutputError):
                there = self._system.exists(bucket)
            if not there:
                raise OutputError(f"{address}: there is no bucket {bucket}, or you may not list it")
        self.stream: BinaryIO = cast("BinaryIO", tempfile.TemporaryFile("w+b", buffering=_BUFFER))  # noqa: SIM115

    def commit(self) -> None:
        """Upload the file. If this raises, the address still has its old content."""
        try:
            self.stream.seek(0)
            # A transaction completes an upload, or renames a file, only when all of it was written.
            with (
                _translated(self.name, OutputError),
                self._system.transaction,
                self._system.open(self._path, "wb") as target,
            ):
                shutil.copyfileobj(self.stream, target, _BUFFER)
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop what was written. Safe to call twice, and after ``commit``."""
        with suppress(OSError):
            self.stream.close()


def _refuse_secrets(address: str) -> None:
    parts = urlsplit(address)
    if parts.password is not None or parts.query:
        part = "a password" if parts.password is not None else "a query"
        raise FileError(
            f"{parts.scheme}://{parts.hostname or ''}{parts.path}: the address contains {part}, which could end up in"
            " a log; set the credentials for the store's own tools, or pipe the list in:"
            " curl … | accucheck bulk - -o checked.csv"
        )


def _file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    _refuse_secrets(address)
    scheme = urlsplit(address).scheme
    try:
        import fsspec
    except ImportError:
        raise needs("remote", f"{scheme}://") from None
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        named = _OTHER_PACKAGES.search(str(error))
        package = next(filter(None, named.groups()), None) if named else None
        if package is None or scheme in ("s3", "s3a", "gs", "gcs", "http", "https"):
            raise needs("remote", f"{scheme}://") from None
        raise FileError(f"{scheme}:// needs an extra package: pip install {package}") from None
    except ValueError:
        raise FileError(f"{address}: {scheme}:// is not supported; use s3://, gs:// or https://") from None
    return system, path


@contextmanager
def _translated(address: str, kind: type[FileError]) -> Iterator[None]:
    try:
        yield
    except FileError:
        raise
    except Exception as error:  # each store's package raises its own
        said = next((words for known, words in _SAID.items() if isinstance(error, known)), None)
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise kind(f"{address}: {said or f'the store cannot be used ({words})'}") from error


_SAID: Final[dict[type[Exception], str]] = {
    FileNotFoundError: "there is no such object, or no such bucket",
    PermissionError: "the store refuses access; check the credentials and their permissions",
    NotImplementedError: "this kind of address can only be read",
}
