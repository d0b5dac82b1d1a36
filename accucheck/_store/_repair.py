"""Saves the contents of a ledger whose file has vanished or is damaged."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from accucheck._errors import LedgerError
from accucheck._models import Check
from accucheck._store import _owner
from accucheck._store._file import (
    PAGE_BYTES,
    SPOILED,
    create_ledger,
    files_of,
    open_ledger,
    translate_errors,
)
from accucheck._store._packing import FAILED, Row, instant, number_of, settlement_of
from accucheck._store._tables import Tables, in_transaction, upsert

__all__ = ["Repaired", "repair", "rescue"]

_LEAF: Final = 0x0D
_LOG_HEADER, _FRAME_HEADER = 32, 24


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """The result of repairing a damaged ledger."""

    path: str
    """The ledger, rebuilt from what could be read."""
    damaged: str
    """The damaged file, kept under this name."""
    answers: int
    failures: int


def rescue(tables: Tables, trouble: str) -> Path:
    """Write everything in an open ledger to a new file, close the old one, and return where the new one is.

    That is the ledger's own path if nothing is there now. Raises what SQLite and the system raise; the old ledger then
    stays open.
    """
    path = tables.path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    spare = _unused(path, "rescue")
    spoiled = trouble in SPOILED
    try:
        if spoiled:
            _rebuild(path, spare)
        else:
            tables.copy_to(spare)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise
    if spoiled:
        # Closing would copy the log into the file, which now belongs to someone else.
        with suppress(OSError):
            os.truncate(files_of(path)[1], 0)
    with suppress(sqlite3.Error):
        tables.abandon()
    if path.exists():
        return spare
    spare.rename(path)
    return path


def repair(path: Path) -> Repaired:
    """Rebuild a ledger from every answer that can be read in a damaged one, which is kept under another name.

    Reads the pages one by one, so neither a damaged page nor a lost beginning hides the others. The counts of calls
    and the settings are kept if they can be read.

    Raises:
        LedgerError: there is no such file, it is in use, or the new one cannot be written.
    """
    with translate_errors(path):
        if not path.is_file():
            raise LedgerError(f"ledger {path}: there is no such file")
        if users := _owner.users(path):
            raise LedgerError(f"ledger {path}: {users[0]} uses it: stop that process first")
        spare = _unused(path, "repaired")
        try:
            answers, failures = _rebuild(path, spare)
        except BaseException:
            spare.unlink(missing_ok=True)
            raise
        kept = _unused(path, "damaged")
        for file in files_of(path)[1:]:
            with suppress(FileNotFoundError):
                file.rename(kept.with_name(kept.name + file.name.removeprefix(path.name)))
        path.rename(kept)
        spare.rename(path)
    return Repaired(path=str(path), damaged=str(kept), answers=answers, failures=failures)


def _unused(path: Path, kind: str) -> Path:
    name = f"{path.name}.{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    place, n = path.with_name(name), 1
    while place.exists():
        n += 1
        place = path.with_name(f"{name}-{n}")
    return place


def _rebuild(path: Path, target: Path) -> tuple[int, int]:
    """Create a ledger at ``target`` from what can be read at ``path``; return its number of answers and failures."""
    create_ledger(target)
    with closing(open_ledger(target, create=False)) as connection:
        upsert(connection, _rows(path))
        for table in ("settings", "jobs", "earlier"):
            rows = list(_rows_by_sql(path, f"SELECT * FROM {table}"))  # noqa: S608
            if rows:
                marks = ",".join("?" * len(rows[0]))
                with in_transaction(connection):
                    connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608
        answers, failures = connection.execute(
            "SELECT count(whatsapp), count(*) - count(whatsapp) FROM answers"
        ).fetchone()
    return answers, failures


def _rows(path: Path) -> Iterator[Row]:
    """Yield every intact row in a page of the file or its log, even from pages that nothing points to.

    A row may come several times, and older versions of it too.
    """
    for file, start, step in ((path, 0, 0), (files_of(path)[1], _LOG_HEADER, _FRAME_HEADER)):
        with suppress(FileNotFoundError), file.open("rb") as source:
            source.seek(start)
            while page := source.read(step + PAGE_BYTES):
                yield from _rows_of_page(page[step:])
    for order in ("ASC", "DESC"):  # for rows too long for one page, up to the damage from both sides
        select = f"SELECT * FROM answers WHERE length(packed) > {PAGE_BYTES // 2} ORDER BY key {order}"  # noqa: S608
        for row in _rows_by_sql(path, select):
            with suppress(TypeError, msgspec.MsgspecError):
                settlement_of(number_of(row[0]), row[3])
                if isinstance(row[1], int) and row[2] in (None, 0, 1):
                    yield row


def _rows_by_sql(path: Path, select: str) -> Iterator[Any]:
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as damaged,
    ):
        yield from damaged.execute(select)


def _rows_of_page(page: bytes) -> Iterator[Row]:
    """Yield the answers of a leaf of the tree (https://www.sqlite.org/fileformat2.html#b_tree_pages)."""
    if not page or page[0] != _LEAF:
        return
    cells = int.from_bytes(page[3:5], "big")
    for place in range(min(cells, (PAGE_BYTES - 8) // 2)):
        at = int.from_bytes(page[8 + 2 * place : 10 + 2 * place], "big")
        with suppress(IndexError, ValueError, OverflowError, msgspec.MsgspecError):
            row = _row_of_cell(page, at)
            if row is not None:
                yield row


def _row_of_cell(page: bytes, at: int) -> Row | None:
    """Return the answer in a cell, if it is one: everything that is in it twice must agree."""
    size, at = _varint(page, at)
    key, at = _varint(page, at)
    end = at + size
    header, after = _varint(page, at)
    body = at + header
    types: list[int] = []
    while after < body:
        kind, after = _varint(page, after)
        types.append(kind)
    if len(types) != 4 or types[0] != 0 or end > len(page):
        return None
    _, at_type, whatsapp_type, packed_type = types
    width = (0, 1, 2, 3, 4, 6, 8)[at_type]
    when = int.from_bytes(page[body : body + width], "big", signed=True)
    start = body + width + (1 if whatsapp_type == 1 else 0)
    if packed_type < 12 or packed_type % 2 or start + (packed_type - 12) // 2 != end:
        return None
    packed = page[start:end]
    settlement = settlement_of(number_of(key), packed)
    whatsapp = settlement.result.whatsapp if isinstance(settlement.result, Check) else None
    if (key & FAILED != 0) != (whatsapp is None):
        return None
    if isinstance(settlement.result, Check) and settlement.result.checked_at != instant(when):
        return None
    return key, when, whatsapp, packed


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(9):
        byte = page[at + place]
        if place == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError
