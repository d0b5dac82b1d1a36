"""Programs from the system's packages that tests run: nginx, a browser, a database.

A test that needs one asks :func:`program` for it, starts it itself on a free port of loopback, and ends
it by its id. To add one, add a line to ``servers`` in ``.ci/run``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def program(*names: str, package: str, folders: str = "") -> str:
    """Return the path of the first of ``names`` that is installed.

    ``folders`` is a glob of folders, below ``/``, that are searched beside PATH and ``/usr/sbin``, newest
    version first. Without the program the test is skipped; where ``REQUIRE_SERVERS`` is set it fails.
    """
    paths = [os.environ.get("PATH", os.defpath), "/usr/sbin"]
    if folders:
        paths += sorted(map(str, Path("/").glob(folders)), reverse=True)
    for name in names:
        if found := shutil.which(name, path=os.pathsep.join(paths)):
            return found
    missing = f"needs {names[0]}: apt-get install {package}"
    if os.environ.get("REQUIRE_SERVERS"):
        pytest.fail(missing)
    pytest.skip(missing)
