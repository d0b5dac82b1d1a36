"""Makes ``help()`` show the text below each field.

Editors and the documentation look for text below a field, but Python does not keep it. So the source is read again when
someone asks for help.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Self, SupportsIndex, TypeVar

__all__ = ["with_fields"]

Kind = TypeVar("Kind", bound=type)


def with_fields(kind: Kind) -> Kind:
    """Append the fields of a class and its bases to its docstring."""
    if kind.__doc__ is not None:  # python -OO
        kind.__doc__ = _Docstring(kind)
    return kind


class _Docstring(str):
    """A class docstring that is completed when it is read."""

    _kind: type

    def __new__(cls, kind: type) -> Self:
        text = super().__new__(cls, kind.__doc__)
        text._kind = kind
        return text

    def __get__(self, instance: object, owner: type | None = None) -> str:
        return self._completed() if owner in (None, self._kind) else str(self)

    def expandtabs(self, tabsize: SupportsIndex = 8) -> str:
        """``help()`` cleans this object itself if its class has a metaclass, as msgspec structs do."""
        return self._completed().expandtabs(tabsize)

    def _completed(self) -> str:
        text = inspect.cleandoc(str(self))
        fields: dict[str, str] = {}
        for base in reversed(self._kind.__mro__):
            if base.__module__.startswith("accucheck"):
                fields |= _fields(base)
        if not fields:
            return text
        lines = [f"    {name}: {_one_paragraph(text)}" for name, text in fields.items()]
        wrapped = [textwrap.fill(line, 118, subsequent_indent=" " * 8) for line in lines]
        return f"{text}\n\nFields:\n" + "\n".join(wrapped)


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())


def _fields(kind: type) -> dict[str, str]:
    """Return the texts below the fields in a class's own source; none where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = dict(_documented(definition.body))
    for method in definition.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            found |= dict(_documented(method.body))
    return found


def _documented(statements: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for pair in pairwise(statements):
        match pair:
            case (
                ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name))
                | ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ) if not name.startswith("_"):
                yield name, text
