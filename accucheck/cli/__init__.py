"""The command line: arguments in, the library called, answers and exit codes out.

Nothing here is needed by the library, and this module itself imports only the standard library, so
that a core install can say what is missing instead of failing with a traceback.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

__all__ = ["main"]

NEEDED = ("cyclopts", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see ``accucheck --help``).

    ``arguments`` are the words after the program's name; by default those of this process.
    """
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        print(
            f"accucheck: the command line needs {' and '.join(missing)}: pip install 'accucheck[cli]'",
            file=sys.stderr,
        )
        return 2
    from accucheck.cli._app import run

    return run(sys.argv[1:] if arguments is None else arguments)
