"""Room on the disk for the answers that are under way when it becomes full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["RESERVE_BYTES", "Reserve"]

RESERVE_BYTES = 512 * 1024
"""An answer takes about 100 bytes, its page in the log 4 KiB at most: room for the calls of a thousand workers."""


class Reserve:
    """A file of nothing, ``PATH.reserve``, that gives its room back when it is needed.

    What it stands in for was paid for and cannot be stored elsewhere. On a disk that has no room for it at the
    start there is none; one that a killed run has left is taken over.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path.with_name(path.name + ".reserve")
        if size:
            with suppress(OSError):
                descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
                try:
                    # Written, not only declared: a hole in a file keeps no room.
                    os.write(descriptor, bytes(size))
                finally:
                    os.close(descriptor)

    def release(self) -> bool:
        """Give the room back; return whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
