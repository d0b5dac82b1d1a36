"""A ledger as a list, so that every output format can write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from accucheck._models import Check, Settlement
from accucheck._phone import e164
from accucheck._store import Ledger
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
        self.columns = ["number", "endpoint", "checked_at", "calls", "possibly_double_charged"]
        self.number_column = NumberColumn("number", 0, "name")

    def _rows(self) -> Iterator[Row]:
        for endpoint, settlement in self._ledger.settlements():
            yield Row(str(settlement.number), (endpoint, settlement))

    def values(self, row: Row) -> Sequence[object]:
        """Return the number, and when and at what cost it was settled."""
        endpoint, settlement = cast("tuple[str, Settlement]", row.record)
        result = settlement.result
        return (
            e164(settlement.number),
            endpoint,
            result.checked_at.isoformat(timespec="seconds") if isinstance(result, Check) else "",
            settlement.calls,
            settlement.possibly_double_charged,
        )
