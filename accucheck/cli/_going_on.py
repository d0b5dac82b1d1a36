"""What to do next, after a run that did not come to its end."""

from __future__ import annotations

from accucheck._errors import BudgetExhausted, OutOfQuota, RunEnded
from accucheck.cli._job import Job

__all__ = ["how_to_go_on"]


def how_to_go_on(job: Job, error: RunEnded | None) -> str:
    """Return the next step as a clause: after what ended the run, or after an interruption."""
    match error:
        case BudgetExhausted():
            step = "run it again with a higher --max-calls"
        case OutOfQuota():
            step = "run the same command again once the account has calls"
        case None:
            step = "run the same command again"
        case _:
            step = "run the same command again once that is mended"
    if job.ledger_path is None:
        return f"{step}; without a ledger (--ledger PATH) every number is asked anew"
    return f"{step} to go on: what is answered is not asked again"
