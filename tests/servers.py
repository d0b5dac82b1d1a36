"""Programs that tests run, from the system's packages: nginx, a browser, a database.

A test that needs one gets its path from :func:`program`, starts it on a free loopback port, and ends it by
process id. To add one, add a line to ``servers`` in ``.ci/run``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def program(*names: str, package: str, folders: str = "") -> str:
    """Return the path of the first of ``names`` that is installed.

    ``folders`` is a glob of folders below ``/`` to search in addition to PATH and ``/usr/sbin``, newest version
    first. Without the program, the test is skipped, or fails if ``REQUIRE_SERVERS`` is set.
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
