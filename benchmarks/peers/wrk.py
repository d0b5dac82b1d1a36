"""wrk, one thread: the ceiling. It neither parses nor keeps answers.

wrk runs for a number of whole seconds, not of calls: as long as the job would take at 200,000 checks a second,
and at least one second.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
from pathlib import Path

from benchmarks.job import CREDENTIALS, FIRST_NUMBER, Job, report, stay_on_core
from benchmarks.servers import require

_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
{headers}
local number = {first}
request = function()
  number = number + 1
  return wrk.format(nil, nil, nil, "number=" .. number)
end
"""


def main() -> None:
    """Run wrk on the job and print the measurements."""
    job = Job.from_arguments()
    stay_on_core(job)
    seconds = max(1, round(job.checks / 200_000))
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in CREDENTIALS.items())
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_SCRIPT.format(headers=headers, first=FIRST_NUMBER))
        done = subprocess.run(
            [require("wrk"), "-t1", f"-c{job.workers}", f"-d{seconds}s", "-s", os.fspath(script), job.url],
            capture_output=True,
            text=True,
            check=True,
        )
    counted = re.search(r"(\d+) requests in ([\d.]+)(m?s)", done.stdout)
    if counted is None or "Non-2xx" in done.stdout:
        raise SystemExit(f"wrk: unexpected output: {done.stdout}")
    checks = int(counted[1])
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    report(
        checks=checks,
        right=checks,
        seconds=float(counted[2]) / (1000 if counted[3] == "ms" else 1),
        cpu_user=usage.ru_utime,
        cpu_system=usage.ru_stime,
    )


if __name__ == "__main__":
    main()
