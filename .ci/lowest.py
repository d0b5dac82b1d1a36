"""Print the lowest versions that pyproject.toml allows, as constraints for pip: python .ci/lowest.py [EXTRA...].

Covers the package itself and the named extras.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

BOUND = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


def lowest(extras: Sequence[str]) -> Iterator[str]:
    """Yield a constraint for each dependency."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    named = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *(line for extra in extras for line in named[extra])]:
        if requirement.startswith("accucheck["):
            continue  # another extra, to be named as well
        found = BOUND.match(requirement)
        if found is None:
            raise SystemExit(f"{requirement} has no lower bound")
        yield f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print("\n".join(lowest(sys.argv[1:])))
