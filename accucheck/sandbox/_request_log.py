"""The request log: one JSON line per call, in the file before the reply is sent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class RequestLog:
    """Appends to a file that only its owner can read. Raises ``OSError`` if it cannot be opened or written.

    Each line is one ``write`` to the file, with nothing buffered in this process: a reader, or a
    test after a kill, finds every call that was answered. It is not synced to the disk: the sandbox
    is meant to outlive its clients, not the machine.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, line: dict[str, object]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
