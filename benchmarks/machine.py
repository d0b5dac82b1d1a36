"""The machine behind the results: processor, system, versions, and how busy it was."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "accucheck",
    "aiohttp",
    "aiohttp-retry",
    "aiolimiter",
    "aiometer",
    "anyio",
    "botocore",
    "httpcore",
    "httptools",
    "httpx",
    "msgspec",
    "phonenumberslite",
    "pyreqwest",
    "scrapy",
    "tenacity",
    "uvloop",
)


def describe() -> dict[str, Any]:
    """Describe this machine and what is installed on it."""
    return {
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "nginx": _version("nginx", "-v"),
        "wrk": _version("wrk", "-v"),
        "packages": {name: _package_version(name) for name in PACKAGES},
    }


def cores() -> tuple[int | None, int | None]:
    """Return the core for the servers and the core for the client, or (None, None) if there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(program: str, flag: str) -> str | None:
    if shutil.which(program) is None:
        return None
    done = subprocess.run([program, flag], capture_output=True, text=True, check=False, timeout=10)
    lines = (done.stderr + done.stdout).strip().splitlines()
    return lines[0].partition(" Copyright")[0] if lines else None


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
