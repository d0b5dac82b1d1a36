"""Runs the command line and kills the process at a chosen step of a number's path; for tests.

``python -m tests.acceptance.crashing POINT NTH bulk …``: when POINT is reached for the NTH time, the process
gets SIGKILL: no handler runs and nothing is flushed.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

POINTS = (
    "after_admit",
    "before_send",
    "after_reply",
    "before_commit",
    "after_commit",
    "before_rename",
    "after_rename",
    "moment",
)
"""``moment`` is not a step: NTH is the milliseconds from the first send to the kill."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_nth(nth: int) -> Callable[[], None]:
    """Return a function that kills the process the nth time it is called."""
    left = nth

    def reached() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    return reached


def arm(point: str, nth: int) -> None:
    """Install the trap for a step."""
    from accucheck import _admission
    from accucheck._http import Sender
    from accucheck._store import _sqlite

    reached = at_nth(nth)

    def after(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **keywords: Any) -> Any:
            result = original(*args, **keywords)
            reached()
            return result

        setattr(owner, name, wrapped)

    def before(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **keywords: Any) -> Any:
            reached()
            return original(*args, **keywords)

        setattr(owner, name, wrapped)

    def around_send(*, reply: bool, instead: Callable[[], None] = reached) -> None:
        original = Sender.__call__

        async def wrapped(self: Sender, national: str, timeouts: Any = None) -> Any:
            if not reply:
                instead()
            result = await original(self, national, timeouts)
            if reply:
                instead()
            return result

        Sender.__call__ = wrapped  # type: ignore[method-assign]

    match point:
        case "after_admit":
            after(_admission.Admission, "_look_up")
        case "before_send":
            around_send(reply=False)
        case "after_reply":
            around_send(reply=True)
        case "before_commit":
            before(_sqlite._Ledger, "settle")
        case "after_commit":
            after(_sqlite._Ledger, "settle")
        case "before_rename":
            before(os, "replace")
        case "after_rename":
            after(os, "replace")
        case "moment":
            started = False

            def start() -> None:
                nonlocal started
                if not started:
                    started = True
                    threading.Timer(nth / 1000, die).start()

            around_send(reply=False, instead=start)
        case _:
            raise SystemExit(f"no such point: {point}")


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    from accucheck.cli import main

    sys.argv = ["accucheck", *sys.argv[3:]]
    sys.exit(main())
