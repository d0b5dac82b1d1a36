"""Parquet: rows stay in Arrow batches, so that every column keeps its type and values.

Arrow's columns become Python values only for other formats, including values that Python cannot represent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, ClassVar

from accucheck.files._columns import Wanted
from accucheck.files._origin import FileError, Origin, needs, translate_errors
from accucheck.files._rows import (
    RESULT_COLUMNS,
    ResultColumns,
    Row,
    Source,
    Writer,
    as_text,
    column_names,
    distinct_names,
    padded,
    printable,
)

__all__ = ["ParquetSource", "ParquetWriter"]

_SAMPLE_ROWS = 200
_READ_BUFFER = 1 << 20

_GROUP_ROWS = 65_536
"""Rows in a row group of the output."""

_BATCH_ROWS = 1024
"""Rows read at once. Few, because a row in progress keeps its whole batch in memory."""

_BATCH_BYTES = 8 << 20
"""The same for rows with long cells."""

_GROUP_BYTES = 64 << 20

_PAGE_ROWS = 64
"""Rows converted to Python values together, because a single one takes half as long as all of these."""

_PAGES_KEPT = 32


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise needs("parquet", "Parquet") from error
    return pyarrow, pyarrow.parquet


class _Page:
    """Some rows that follow each other, and their values if they were asked for lately."""

    __slots__ = ("batch", "begin", "cells")

    def __init__(self, batch: Any, begin: int) -> None:
        self.batch = batch
        self.begin = begin
        self.cells: list[Sequence[object]] | None = None


class ParquetSource(Source):
    """Rows of a Parquet file. The number column may be text, integers or floats."""

    format: ClassVar[str] = "parquet"

    def __init__(self, origin: Origin, *, column: Wanted = None) -> None:
        super().__init__(origin)
        self._arrow, self._parquet = _pyarrow()
        self._done = 0
        with translate_errors(self.name, self._arrow.ArrowException), self._open() as file:
            self.schema = file.schema_arrow
            self.rows_total = file.metadata.num_rows
            self.columns = list(self.schema.names)
            self._batch_rows = _rows_that_fit(file.metadata)
            batch = next(file.iter_batches(min(_SAMPLE_ROWS, self._batch_rows)), None)
            sample = self._sampled(batch) if batch is not None else []
            # Only ask for a codec that has been read with: for an unknown one, the library aborts the process.
            read = batch is not None and len(self.schema)
            chunk = file.metadata.row_group(0).column(0) if read and file.metadata.num_row_groups else None
            self.compression: str = chunk.compression.lower() if chunk else "snappy"
        self._choose_columns(sample, column)
        self._converted: deque[_Page] = deque()

    @property
    def fraction(self) -> float:
        return self._done / self.rows_total if self.rows_total else 0.0

    def numbers(self) -> Iterator[str]:
        if len(self.number_columns) > 1:
            yield from super().numbers()
            return
        name, index = self.number_column.name, self.number_column.index
        # Of columns with the same name all are read: ours is one of them.
        place = self.columns[:index].count(name)
        for batch in self._batches([name]):
            yield from self._texts(batch.column(place))

    def values(self, row: Row) -> Sequence[object]:
        page, place = row.record
        if page.cells is None:
            page.cells = self._cells(page.batch.slice(page.begin, _PAGE_ROWS))
            # Answers come in any order, and from both sides of a batch's end: some pages are kept at a time.
            self._converted.append(page)
            if len(self._converted) > _PAGES_KEPT:
                self._converted.popleft().cells = None
        cells: Sequence[object] = page.cells[place]
        return cells

    def _rows(self) -> Iterator[Row]:
        for batch in self._batches(None):
            numbers, *others = (self._texts(batch.column(column.index)) for column in self.number_columns)
            if others:
                numbers = ["\n".join(cells) for cells in zip(numbers, *others, strict=True)]
            for begin in range(0, len(numbers), _PAGE_ROWS):
                page = _Page(batch, begin)
                for place, number in enumerate(numbers[begin : begin + _PAGE_ROWS]):
                    yield Row(number, (page, place))

    def _batches(self, columns: list[str] | None) -> Iterator[Any]:
        done = self._done = 0
        with translate_errors(self.name, self._arrow.ArrowException), self._open() as file:
            for batch in file.iter_batches(self._batch_rows, columns=columns, use_threads=False):
                yield batch
                done += batch.num_rows
                self._done = done
            if done != self.rows_total:
                raise FileError(
                    f"{self.name}: the file should have {self.rows_total:,} rows but has {done:,};"
                    " it is damaged, copy it again"
                )

    def _texts(self, column: Any) -> list[str]:
        cells = cells_of(self._arrow, column)
        return [cell if type(cell) is str else as_text(cell) for cell in cells]

    def _cells(self, batch: Any) -> list[Sequence[object]]:
        with translate_errors(self.name, self._arrow.ArrowException):
            return list(zip(*(cells_of(self._arrow, column) for column in batch.columns), strict=True))

    def _sampled(self, batch: Any) -> list[Sequence[object]]:
        columns = (
            cells_of(self._arrow, column)
            if can_hold_numbers(self._arrow, column.type)
            else [None] * batch.num_rows
            for column in batch.columns
        )
        return list(zip(*columns, strict=True))

    def _open(self) -> Any:
        # Not pre-buffered: that holds a whole row group, which in some files is the whole file.
        return self._parquet.ParquetFile(str(self.origin.path), pre_buffer=False, buffer_size=_READ_BUFFER)


def _rows_that_fit(metadata: Any) -> int:
    """Return how many rows to read at once."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    longest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=0)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1, longest))))


class ParquetWriter(Writer):
    """Writes rows as Parquet, followed by their results.

    Rows that come from Parquet keep their schema, its metadata and the compression. Rows of text formats
    become text columns: an output must not guess that ``007`` is a number.
    """

    def __init__(self, out: BinaryIO, source: Source, *, numbers: int = 1) -> None:
        self._numbers = numbers
        self._arrow, parquet = _pyarrow()
        self._source = source
        own = source.all_columns()
        arrow = self._arrow
        types = {
            "whatsapp": arrow.bool_(),
            "status_update": arrow.date32(),
            "business_user": arrow.bool_(),
            "avatar": arrow.bool_(),
            "checked_at": arrow.timestamp("us", "UTC"),
        }
        self._result_types = [types.get(name, arrow.string()) for name in RESULT_COLUMNS] * numbers
        compression = "zstd"
        if isinstance(source, ParquetSource):
            schema = source.schema
            compression = {"uncompressed": "none"}.get(source.compression, source.compression)
        else:
            schema = arrow.schema([(name, arrow.string()) for name in distinct_names(own)])
        self._own_width = len(own)
        for name, kind in zip(column_names(schema.names, numbers), self._result_types, strict=True):
            schema = schema.append(arrow.field(name, kind))
        self._schema = schema
        with translate_errors("the Parquet output", arrow.ArrowException):
            self._writer = parquet.ParquetWriter(out, schema, compression=compression)
        self._kept = isinstance(source, ParquetSource)
        self._batch: Any = None
        self._places: list[int] = []
        self._pieces: list[Any] = []
        self._bytes = 0
        self._rows: list[list[str | None]] = []
        self._results: list[Sequence[Any]] = []

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        if self._kept:
            page, place = row.record
            if page.batch is not self._batch:
                self._end_piece()
                self._batch = page.batch
            self._places.append(page.begin + place)
        else:
            cells = [None if cell is None else as_text(cell) for cell in self._source.values(row)]
            self._bytes += sum(len(cell) for cell in cells if cell is not None)
            self._rows.append(cells)
        self._results.append(result if self._numbers == 1 else padded(result, more, self._numbers))
        if len(self._results) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows so far as a row group."""
        if not self._results:
            return
        arrow = self._arrow
        arrays = [
            arrow.array(_printable_cells(cells) if kind == arrow.string() else cells, kind)
            for cells, kind in zip(zip(*self._results, strict=True), self._result_types, strict=True)
        ]
        table = arrow.Table.from_arrays([*self._own_arrays(), *arrays], schema=self._schema)
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._rows, self._results = [], []
        self._pieces, self._bytes = [], 0

    def finish(self) -> None:
        """Write the rest and the footer."""
        self.flush()
        self._writer.close()

    def discard(self) -> None:
        """Release the library's writer while its stream still accepts bytes, which are discarded."""
        with suppress(OSError, self._arrow.ArrowException):
            self._writer.close()

    def _end_piece(self) -> None:
        """Keep what was written of one batch, and no more of it than that."""
        if not self._places:
            return
        whole = self._places == list(range(self._batch.num_rows))
        piece = self._batch if whole else self._batch.take(self._arrow.array(self._places))
        self._pieces.append(piece)
        self._bytes += self._batch.nbytes * len(self._places) // self._batch.num_rows
        self._places = []

    def _own_arrays(self) -> list[Any]:
        arrow = self._arrow
        if self._kept:
            self._end_piece()
            return list(arrow.Table.from_batches(self._pieces).columns)
        width = self._own_width
        padded = ([*cells, *[None] * (width - len(cells))] for cells in self._rows)
        return [arrow.array(cells, arrow.string()) for cells in zip(*padded, strict=True)]


def _printable_cells(cells: Sequence[str | None]) -> Sequence[str | None]:
    # All at once: hardly a group has a cell with anything to take out.
    if "".join([cell for cell in cells if cell]).isprintable():
        return cells
    return [cell and printable(cell) for cell in cells]


def cells_of(arrow: Any, column: Any) -> list[object]:
    """Return the values of a column.

    Arrow has times finer than Python's and years before its first and after its last; as text it has them all.
    Text that is not UTF-8, which Arrow does not check, gets a replacement character for each bad byte.
    """
    shown = _shown_type(arrow, column.type)
    if shown != column.type:
        column = column.cast(shown)
    try:
        cells: list[object] = column.to_pylist()
    except UnicodeDecodeError:
        if not _is_text(arrow, column.type):
            raise
        cells = [
            cell if cell is None else cell.decode("utf-8", "replace")
            for cell in column.cast(arrow.large_binary()).to_pylist()
        ]
    return cells


def can_hold_numbers(arrow: Any, kind: Any) -> bool:
    """Whether phone numbers can be in a column of this type: text, or numbers of any kind."""
    types = arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        _is_text(arrow, kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    )


def _is_text(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _shown_type(arrow: Any, kind: Any) -> Any:
    """Return ``kind`` with text in the place of times, however deep they are."""
    types = arrow.types
    if types.is_temporal(kind):
        return arrow.string()
    if types.is_dictionary(kind) and types.is_temporal(kind.value_type):
        return arrow.string()
    if types.is_struct(kind):
        return arrow.struct([(field.name, _shown_type(arrow, field.type)) for field in kind])
    if types.is_map(kind):
        return arrow.map_(_shown_type(arrow, kind.key_type), _shown_type(arrow, kind.item_type))
    if types.is_fixed_size_list(kind):
        return arrow.list_(_shown_type(arrow, kind.value_type), kind.list_size)
    if types.is_list(kind):
        return arrow.list_(_shown_type(arrow, kind.value_type))
    if types.is_large_list(kind):
        return arrow.large_list(_shown_type(arrow, kind.value_type))
    return kind
