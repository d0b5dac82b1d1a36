"""An output file that appears complete or not at all.

The bytes go to a temporary file next to the target (mode 0600), which is synced and renamed over the target; then the
directory is synced. So after ``commit`` returns, the output survives a power cut, and its name never shows half a file.
The next run removes the temporary file of a killed run; a live run holds a lock on its own.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from accucheck.files._errors import OutputError, translate_errors

if os.name == "posix":
    from fcntl import LOCK_EX, LOCK_NB, flock

__all__ = ["AtomicFile", "is_stream"]

_BUFFER = 1 << 20


class AtomicFile:
    """The file that is being written to replace ``path``.

    An existing target keeps its mode, and a symbolic link then points to the new file. A pipe, a device, and anything
    behind ``/dev/stdout`` or ``/dev/fd/3`` is written to directly, even a file that others write to, because a rename
    would replace it with a regular file.

    Args:
        path: The output.
        replace: Renames the finished file; for tests.
        fsync: Syncs a descriptor, of the file and then of its directory; for tests.

    Raises:
        FileError: The directory cannot be written to, or ``path`` is a directory.
    """

    def __init__(
        self,
        path: Path,
        *,
        replace: Callable[[str, str], None] = os.replace,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.name = str(path)
        self._replace = replace
        self._fsync = fsync
        self._target = Path(os.path.realpath(path))
        self._temporary: str | None = None
        with translate_errors(self.name):
            descriptor = _descriptor_of(path)
            if descriptor is not None:
                # A copy: what was written by others stays, and the position is shared with them.
                self.stream: BinaryIO = open(os.dup(descriptor), "wb", buffering=_BUFFER)  # noqa: SIM115
                return
            mode = self._target.stat().st_mode if self._target.exists() else None
            if mode is not None and stat.S_ISDIR(mode):
                raise IsADirectoryError
            if not self._target.parent.is_dir():
                raise OutputError(f"{self.name}: there is no directory {self._target.parent}")
            if mode is not None and not stat.S_ISREG(mode):
                self.stream = self._target.open("wb", buffering=_BUFFER)
                return
            prefix = f".{self._target.name[:100]}."
            _remove_leftovers(self._target.parent, prefix)
            descriptor, self._temporary = tempfile.mkstemp(".tmp", prefix, self._target.parent)
            self.stream = open(descriptor, "w+b", buffering=_BUFFER)  # noqa: SIM115
            _lock(self.stream)
            if mode is not None:
                os.chmod(self._temporary, stat.S_IMODE(mode))

    def commit(self) -> None:
        """Rename the file to its target. If this raises, the old file is untouched and the new one is gone."""
        try:
            with translate_errors(self.name):
                self.stream.flush()
                if self._temporary is None:
                    self.stream.close()
                    return
                self._fsync(self.stream.fileno())
                self._replace(self._temporary, str(self._target))
                self._temporary = None
                self._sync_directory()
                self.stream.close()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove what was written. Safe to call twice, and after ``commit``."""
        if self._temporary is not None:
            Path(self._temporary).unlink(missing_ok=True)
            self._temporary = None
        with suppress(OSError):  # the disk may be full, and these bytes are thrown away
            self.stream.close()

    def _sync_directory(self) -> None:
        if os.name != "posix":
            return  # Windows cannot open a directory
        directory = os.open(self._target.parent, os.O_RDONLY)
        try:
            self._fsync(directory)
        finally:
            os.close(directory)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether an output at ``path`` is written directly. Does not open it, which its reader would notice."""
    if _descriptor_of(Path(path)) is not None:
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) and not stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False


_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self|\d+))/fd/(\d+)")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_MOST_LINKS = 40


def _descriptor_of(path: Path) -> int | None:
    """Return the open descriptor that ``path`` is a name of, followed link by link; None if it is of none."""
    if os.name != "posix":
        return None
    name = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        if name in _STANDARD:
            return _STANDARD[name]
        if found := _DESCRIPTOR.fullmatch(name):
            return int(found[1]) if _is_own(name) else None
        folder = os.path.realpath(os.path.dirname(name))
        if found := _DESCRIPTOR.fullmatch(os.path.join(folder, os.path.basename(name))):
            return int(found[1]) if _is_own(folder) else None
        if not os.path.islink(name):
            return None
        name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))
    return None


def _is_own(name: str) -> bool:
    """Whether a name below ``/proc`` is of this process."""
    process = re.match(r"/proc/(\d+)/", name)
    return process is None or int(process[1]) == os.getpid()


def _lock(stream: Any) -> None:
    if os.name == "posix":
        flock(stream.fileno(), LOCK_EX | LOCK_NB)


def _remove_leftovers(directory: Path, prefix: str) -> None:
    if os.name != "posix":
        return
    for leftover in directory.iterdir():
        if not (leftover.name.startswith(prefix) and leftover.name.endswith(".tmp")):
            continue
        try:
            with leftover.open("rb") as stream:
                _lock(stream)
                leftover.unlink()
        except OSError:
            continue  # another run is writing it, or it is not ours to remove
