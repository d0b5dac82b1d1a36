"""A ledger as a list, so that every output format can write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from accucheck._ledger import Entry, Ledger
from accucheck._phone import e164
from accucheck.files import NumberColumn, Row, Source

__all__ = ["LedgerRows"]


class _LedgerFile:
    """The ledger as a sink sees its source: a file that it must not overwrite."""

    head = b""
    repeatable = True
    fraction = 0.0

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.name = str(path)

    def open(self) -> BinaryIO:
        raise NotImplementedError("a ledger is read by its own room")

    def close(self) -> None:
        """Nothing was opened."""


class LedgerRows(Source):
    """The entries of a ledger: answers first, then failures."""

    format = "jsonl"

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(_LedgerFile(ledger.path))
        self._ledger = ledger
        self.columns = ["number", "endpoint", "at", "calls", "possibly_double_charged"]
        self.number_column = NumberColumn("number", 0, "name")

    def _rows(self) -> Iterator[Row]:
        for entry in self._ledger.entries():
            yield Row(str(entry.settlement.number), entry)

    def values(self, row: Row) -> Sequence[object]:
        """Return the number, and when and at what cost it was settled."""
        entry = cast("Entry", row.record)
        settlement = entry.settlement
        return (
            e164(settlement.number),
            entry.endpoint,
            entry.at.isoformat(timespec="seconds"),
            settlement.calls,
            settlement.possibly_double_charged,
        )
