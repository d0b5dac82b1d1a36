"""Arrow's columns as Python values, for what Python itself cannot hold too."""

from __future__ import annotations

from typing import Any

__all__ = ["can_hold_numbers", "cells_of"]


def cells_of(arrow: Any, column: Any) -> list[object]:
    """Return the values of a column.

    Arrow has times finer than Python's and years before its first and after its last; as text it has them all.
    Text that is no UTF-8, which Arrow never looks at, keeps a replacement character for each bad byte.
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
