"""Request body -> the number it asks for. Takes HTML forms and JSON objects."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from accucheck.sandbox._settings import BodyType
from accucheck.sandbox._truth import is_national

MAX_BODY = 65536
"""Bytes that a request body may have."""


class InvalidArgument(Exception):
    """The vendor would refuse this body; the message is its ``reason``."""


def number_in(body: bytes, content_type: str, understood: BodyType = "any") -> str:
    """Return the national number in a request body. Raises :class:`InvalidArgument`."""
    if understood != "any" and (understood == "json") != _is_json(content_type):
        raise InvalidArgument("argument 'number': not found")
    number = raw_number(body, content_type)
    if number is None:
        raise InvalidArgument("argument 'number': not found")
    if not isinstance(number, str) or not is_national(number):
        raise InvalidArgument("argument 'number': invalid")
    return number


def raw_number(body: bytes, content_type: str) -> object:
    """Return whatever stands in the field ``number``, or None."""
    if len(body) > MAX_BODY:
        return None
    # Deep nesting makes the parser raise RecursionError; everything else that is wrong, ValueError.
    try:
        if _is_json(content_type):
            fields = json.loads(body)
            return fields.get("number") if isinstance(fields, dict) else None
        form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
    except (ValueError, RecursionError):
        return None
    return form.get("number", [None])[0]


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"
