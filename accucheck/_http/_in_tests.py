"""A test never pays: under pytest the real vendor is not dialled without an explicit yes.

Libraries that stand in for httpx (respx, pytest-httpx) replace its own transports, so ``FastTransport`` would pass
them by in silence, and a test with credentials in its environment would buy answers.
"""

from __future__ import annotations

import os

import httpx

__all__ = ["REAL_CALLS", "GuardedTransport", "is_in_tests", "stand_in"]

REAL_CALLS = "ACCUCHECK_REAL_CALLS_IN_TESTS"
_VENDOR = "accuauth.com"

stand_in: list[httpx.AsyncBaseTransport] = []
"""What answers in the vendor's place; the last one counts. Filled by the fixtures of ``accucheck.pytest_plugin``."""


def is_in_tests(url: httpx.URL) -> bool:
    """Whether ``url`` is the real vendor's and pytest is running, in this process or in one above it."""
    is_real = url.host == _VENDOR or url.host.endswith(f".{_VENDOR}")
    return (
        is_real and ("PYTEST_VERSION" in os.environ or "PYTEST_CURRENT_TEST" in os.environ) and not _allowed()
    )


def _allowed() -> bool:
    return os.environ.get(REAL_CALLS) == "1"


class GuardedTransport(httpx.AsyncBaseTransport):
    """Answers by the stand-in of the test that runs. Without one, a call raises RuntimeError."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if stand_in:
            return await stand_in[-1].handle_async_request(request)
        raise RuntimeError(
            f"a test tried to call the real AccuAuth ({request.url.host}), which costs money. Use the fixture "
            "accucheck_sandbox or transport=accucheck.testing.FakeVendor(); with respx or pytest-httpx give "
            f"transport=httpx.AsyncHTTPTransport(). To pay for real calls, set {REAL_CALLS}=1."
        )
