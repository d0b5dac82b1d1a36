"""Scrapy with AutoThrottle, set to retry refusals.

AutoThrottle follows the latency of the replies alone: it aims at ``AUTOTHROTTLE_TARGET_CONCURRENCY`` calls in
flight, and a refusal only keeps it from going faster.
"""

from __future__ import annotations

from benchmarks.job import Answers, Job, measure
from benchmarks.peers.scrapy_spider import crawl


def check_all(job: Job) -> Answers:
    return crawl(
        job,
        AUTOTHROTTLE_ENABLED=True,
        AUTOTHROTTLE_START_DELAY=1.0,
        AUTOTHROTTLE_TARGET_CONCURRENCY=8.0,
        RETRY_HTTP_CODES=[403, 500, 502, 503],
        RETRY_TIMES=20,
    )


if __name__ == "__main__":
    measure(check_all)
