"""Run a coroutine to its end, on uvloop where it is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_to_end"]

Value = TypeVar("Value")


def run_to_end(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """Run ``coroutine`` in a new event loop and return its value."""
    try:
        import uvloop
    except ImportError:
        loop_factory = None
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)
