"""What a server's log says about a client: how much of the limit it used, and how often it was refused.

All results of the rate suite come from here, none from a client.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

Span = tuple[float, float]
"""From and to, in seconds since the first request."""
NGINX_REFUSED = 403


class Traffic:
    """The requests of one run, by the second at which they reached the server."""

    def __init__(
        self, admitted: Iterable[float], refused: Iterable[float], *, polls_per_pending: float | None = None
    ) -> None:
        admitted, refused = sorted(admitted), sorted(refused)
        self.began = min([*admitted[:1], *refused[:1]], default=0.0)
        """When the first request came, on the server's clock."""
        self.admitted = [at - self.began for at in admitted]
        self.refused = [at - self.began for at in refused]
        self.polls_per_pending = polls_per_pending
        """Calls after the first PENDING to the answer, on average; None if no pending number was answered."""

    def requests(self, until: float) -> int:
        """Count the admitted and refused calls up to then."""
        return bisect_left(self.admitted, until) + bisect_left(self.refused, until)

    def utilization(self, limit: float, span: Span) -> float:
        """Return the calls admitted in the span as a share of what the limit allows."""
        return _count(self.admitted, span) / (limit * (span[1] - span[0]))

    def refused_share(self, span: Span) -> float:
        """Return the share of the span's calls that were refused; 0 if there were none."""
        refused = _count(self.refused, span)
        return refused / max(refused + _count(self.admitted, span), 1)

    def seconds_to_reach(
        self, limit: float, span: Span, *, share: float = 0.9, over: float = 2.0
    ) -> float | None:
        """Return how long after the span's start the client reached a share of the limit, or None.

        It must keep the share for ``over`` seconds; the result is the start of that period.
        """
        step = 0.1
        start, end = span
        for tick in range(int((end - over - start) / step) + 1):
            at = start + tick * step
            if self.utilization(limit, (at, at + over)) >= share:
                return tick * step
        return None

    def longest_silence(self, span: Span) -> float:
        """Return the longest time in the span without an admitted call, in seconds."""
        start, end = span
        inside = self.admitted[bisect_left(self.admitted, start) : bisect_left(self.admitted, end)]
        moments = [start, *inside, end]
        return max(later - earlier for earlier, later in pairwise(moments))

    def per_second(self, seconds: int) -> tuple[list[int], list[int]]:
        """Return the admitted and the refused calls of each second of the run."""
        return _histogram(self.admitted, seconds), _histogram(self.refused, seconds)


def from_nginx(log: Path) -> Traffic:
    """Read the log of ``servers.limiting_nginx``: time of the reply, seconds it took, HTTP code."""
    admitted: list[float] = []
    refused: list[float] = []
    for line in log.read_text().splitlines():
        replied, took, code = line.split()
        arrived = float(replied) - float(took)
        (refused if int(code) == NGINX_REFUSED else admitted).append(arrived)
    return Traffic(admitted, refused)


def from_sandbox(log: Path) -> Traffic:
    """Read the sandbox's request log. A PENDING call was admitted: it used the limit."""
    admitted, refused = [], []
    calls: Counter[str] = Counter()
    pending: set[str] = set()
    polls: list[int] = []
    for line in log.read_text().splitlines():
        request = json.loads(line)
        number, status = request["number"], request["status"]
        if status == "RATE_LIMIT_EXCEEDED":
            refused.append(request["t"])
            continue
        admitted.append(request["t"])
        calls[number] += 1
        if status == "PENDING":
            pending.add(number)
        elif number in pending:
            pending.remove(number)
            polls.append(calls[number] - 1)
    return Traffic(admitted, refused, polls_per_pending=sum(polls) / len(polls) if polls else None)


def _count(moments: list[float], span: Span) -> int:
    return bisect_left(moments, span[1]) - bisect_left(moments, span[0])


def _histogram(moments: list[float], seconds: int) -> list[int]:
    counts = Counter(int(moment) for moment in moments)
    return [counts[second] for second in range(seconds)]
