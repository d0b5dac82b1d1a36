"""botocore's adaptive retry mode, driving httpx from threads, as botocore drives urllib3.

The limiter, its CUBIC rate, its clocker and its token bucket are botocore's own objects, assembled as
``botocore.retries.adaptive.register_retry_handler`` does; the back-off between tries is its standard one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any

import httpx
from botocore.retries import adaptive, bucket, standard, throttling

from benchmarks.job import CREDENTIALS, Answers, Job, measure


class RefusalDetector:
    """Stands in for botocore's ThrottlingErrorDetector, which reads AWS error codes."""

    def is_throttling_error(self, *, refused: bool, **_: Any) -> bool:
        return refused

    def is_throttling_error_from_context(self, context: AttemptHistory) -> bool:
        return True  # only refusals are retried here


class AttemptHistory:
    """The part of a RetryContext that botocore's back-off reads."""

    http_response = None

    def __init__(self) -> None:
        self.attempt_number = 1


def build_limiter(detector: RefusalDetector) -> adaptive.ClientRateLimiter:
    clock = bucket.Clock()
    return adaptive.ClientRateLimiter(
        rate_adjustor=throttling.CubicCalculator(starting_max_rate=0, start_time=clock.current_time()),
        rate_clocker=adaptive.RateClocker(clock),
        token_bucket=bucket.TokenBucket(max_rate=1, clock=clock),
        throttling_detector=detector,
        clock=clock,
    )


def check_all(job: Job) -> Answers:
    detector = RefusalDetector()
    limiter = build_limiter(detector)
    backoff = standard.ExponentialBackoff(throttling_detector=detector)
    limits = httpx.Limits(max_connections=job.workers, max_keepalive_connections=job.workers)
    answers: dict[str, bool] = {}

    with httpx.Client(headers=CREDENTIALS, limits=limits, timeout=30) as client:

        def check(number: str) -> None:
            attempt = AttemptHistory()
            while True:
                limiter.on_sending_request(request=None)
                reply = client.post(job.url, data={"number": number}).json()
                refused = reply["status"] == "RATE_LIMIT_EXCEEDED"
                limiter.on_receiving_response(refused=refused)
                if not refused:
                    answers[number] = reply["result"]["whatsapp"] == "yes"
                    return
                sleep(backoff.delay_amount(attempt))
                attempt.attempt_number += 1

        with ThreadPoolExecutor(job.workers) as threads:
            for _ in threads.map(check, job.numbers()):
                pass
    return answers


if __name__ == "__main__":
    measure(check_all)
