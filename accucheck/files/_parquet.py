"""Parquet: batches of rows as Arrow has them, so that every column keeps its type and its values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, ClassVar

from accucheck.files._faults import needs, told_clearly
from accucheck.files._number_column import find_number_column
from accucheck.files._origin import Origin
from accucheck.files._results import RESULT_COLUMNS, ResultColumns, column_names, distinct_names, printable
from accucheck.files._source import Row, Source
from accucheck.files._values import as_text

__all__ = ["ParquetSource", "ParquetWriter"]

_SAMPLE_ROWS = 200
_READ_BUFFER = 1 << 20

_BATCH_ROWS = 65_536
"""Rows in memory at a time, and in a row group of the output."""


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise needs("parquet", "Parquet") from error
    return pyarrow, pyarrow.parquet


class ParquetSource(Source):
    """Rows of a Parquet file. The number column may be text, integers or floats."""

    format: ClassVar[str] = "parquet"

    def __init__(self, origin: Origin, *, column: str | int | None = None) -> None:
        super().__init__(origin)
        self._arrow, self._parquet = _pyarrow()
        self._done = 0
        with told_clearly(self.name, self._arrow.ArrowException), self._open() as file:
            self.schema = file.schema_arrow
            self.rows_total = file.metadata.num_rows
            groups = file.metadata.num_row_groups
            chunk = file.metadata.row_group(0).column(0) if groups and len(self.schema) else None
            self.compression: str = chunk.compression.lower() if chunk else "snappy"
            self.columns = list(self.schema.names)
            batch = next(file.iter_batches(_SAMPLE_ROWS), None)
            sample: list[Sequence[object]] = _cells(self._arrow, batch) if batch is not None else []
        self.number_column = find_number_column(self.columns, sample, column, self.name)
        self._cells_of: Any = None
        self._cells: list[Sequence[object]] = []

    @property
    def fraction(self) -> float:
        return self._done / self.rows_total if self.rows_total else 0.0

    def numbers(self) -> Iterator[str]:
        for batch in self._batches([self.number_column.name]):
            yield from self._numbers(batch)

    def values(self, row: Row) -> Sequence[object]:
        batch, place = row.record
        if batch is not self._cells_of:
            self._cells_of, self._cells = batch, _cells(self._arrow, batch)
        cells: Sequence[object] = self._cells[place]
        return cells

    def _rows(self) -> Iterator[Row]:
        for batch in self._batches(None):
            for place, number in enumerate(self._numbers(batch)):
                yield Row(number, (batch, place))

    def _batches(self, columns: list[str] | None) -> Iterator[Any]:
        self._done = 0
        with told_clearly(self.name, self._arrow.ArrowException), self._open() as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                yield batch
                self._done += batch.num_rows

    def _numbers(self, batch: Any) -> list[str]:
        column = batch.column(batch.schema.get_field_index(self.number_column.name))
        return [cell if type(cell) is str else as_text(cell) for cell in column.to_pylist()]

    def _open(self) -> Any:
        # Not pre-buffered: that holds a whole row group, which in some files is the whole file.
        return self._parquet.ParquetFile(str(self.origin.path), pre_buffer=False, buffer_size=_READ_BUFFER)


def _cells(arrow: Any, batch: Any) -> list[Sequence[object]]:
    columns: list[list[object]] = []
    for column in batch.columns:
        # Arrow has times finer than Python's and years before its first; as text it has them all.
        temporal = arrow.types.is_temporal(column.type)
        columns.append((column.cast(arrow.string()) if temporal else column).to_pylist())
    return list(zip(*columns, strict=True))


class ParquetWriter:
    """Writes rows as Parquet, followed by their results.

    Rows that come from Parquet keep their schema, its metadata and the compression. Rows of text formats
    become text columns: an output must not guess that ``007`` is a number.
    """

    def __init__(self, out: BinaryIO, source: Source) -> None:
        self._arrow, parquet = _pyarrow()
        self._source = source
        own = source.all_columns()
        arrow = self._arrow
        types = {
            "whatsapp": arrow.bool_(),
            "status_update": arrow.date32(),
            "business_user": arrow.bool_(),
            "avatar": arrow.bool_(),
        }
        self._result_types = [types.get(name, arrow.string()) for name in RESULT_COLUMNS]
        compression = "zstd"
        if isinstance(source, ParquetSource):
            schema = source.schema
            compression = {"uncompressed": "none"}.get(source.compression, source.compression)
        else:
            schema = arrow.schema([(name, arrow.string()) for name in distinct_names(own)])
        self._own_width = len(own)
        for name, kind in zip(column_names(schema.names), self._result_types, strict=True):
            schema = schema.append(arrow.field(name, kind))
        self._schema = schema
        with told_clearly("the Parquet output", arrow.ArrowException):
            self._writer = parquet.ParquetWriter(out, schema, compression=compression)
        self._kept = isinstance(source, ParquetSource)
        self._batch: Any = None
        self._places: list[int] = []
        self._rows: list[Sequence[object]] = []
        self._results: list[ResultColumns] = []

    def write(self, row: Row, result: ResultColumns) -> None:
        """Add one row."""
        if self._kept:
            batch, place = row.record
            if batch is not self._batch:
                self.flush()
                self._batch = batch
            self._places.append(place)
        else:
            self._rows.append(self._source.values(row))
        self._results.append(result)
        if len(self._results) >= _BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows so far as a row group."""
        if not self._results:
            return
        arrow = self._arrow
        results = (
            [printable(cell) if isinstance(cell, str) else cell for cell in column]
            for column in zip(*self._results, strict=True)
        )
        arrays = [arrow.array(cells, kind) for cells, kind in zip(results, self._result_types, strict=True)]
        batch = arrow.RecordBatch.from_arrays([*self._own_arrays(), *arrays], schema=self._schema)
        self._writer.write_batch(batch)
        self._places, self._rows, self._results = [], [], []

    def finish(self) -> None:
        """Write the rest and the footer."""
        self.flush()
        self._writer.close()

    def discard(self) -> None:
        """Let go of the library's writer while its stream still takes bytes; nobody will read them."""
        with suppress(OSError, self._arrow.ArrowException):
            self._writer.close()

    def _own_arrays(self) -> list[Any]:
        arrow = self._arrow
        if self._kept:
            whole = self._places == list(range(self._batch.num_rows))
            return list((self._batch if whole else self._batch.take(arrow.array(self._places))).columns)
        width = self._own_width
        padded = ([*map(_text_or_none, row), *[None] * (width - len(row))] for row in self._rows)
        return [arrow.array(cells, arrow.string()) for cells in zip(*padded, strict=True)]


def _text_or_none(value: object) -> str | None:
    return None if value is None else as_text(value)
