"""accucheck's ``stream`` with all its safety on: retries, gate, per-phase timeouts, body cap, dedupe.

Words (``--option``): ``plain`` hides the fast extra's packages; ``ledger`` keeps every answer in a new file;
``auto`` lets accucheck find the rate. Without ``auto`` and a rate the gate's rate does not bind.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

if "--option=plain" in sys.argv:
    # An install without the fast extra, short of making one: to Python these are not installed.
    sys.modules.update({"httptools": None, "uvloop": None})  # type: ignore[dict-item]

import accucheck
from benchmarks.job import API_ID, API_SECRET, Answers, Job, measure

NOT_BINDING = 1_000_000.0


async def check_all(job: Job) -> Answers:
    rate = job.rate or ("auto" if "auto" in job.option else NOT_BINDING)
    answers: dict[str, bool] = {}
    with ExitStack() as stack:
        ledger = None
        if "ledger" in job.option:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="accucheck-bench-"))
            ledger = Path(folder) / "answers.ledger"
        async with (
            accucheck.Client(
                API_ID, API_SECRET, base_url=job.base_url, verify=job.ssl_context(), rate=rate
            ) as client,
            client.stream(job.numbers(), workers=job.workers, ledger=ledger) as outcomes,
        ):
            async for outcome in outcomes:
                match outcome:
                    case accucheck.Checked(item=number, check=check):
                        answers[number] = check.whatsapp
                    case accucheck.Failed(item=number, error=error):
                        print(f"{number}: {error!r}", file=sys.stderr)
    return answers


if __name__ == "__main__":
    measure(check_all)
