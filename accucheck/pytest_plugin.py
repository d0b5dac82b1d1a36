"""Fixtures for tests of code that uses accucheck. Loaded by pytest where ``accucheck[testing]`` is installed.

``accucheck_sandbox``
    A simulated AccuAuth on a free port. In a test that uses it, it answers every ``accucheck.Client()`` that would call
    the real vendor, also in child processes. The environment has its address and credentials, so the code under test
    needs no changes. Clients without a ``policy`` use ``Policy.fast()``, and ``rate="auto"`` does not search for a
    limit.

``accucheck_client``
    A client for that sandbox, with quick retries and no rate limit. Works with pytest-asyncio and anyio.

``@pytest.mark.accucheck(strict=True, rate=50, pending=0.2)`` configures the sandbox for one test, with any of
``accucheck.sandbox.Settings``; with ``quick=False``, clients wait as in production.

``accucheck_sandbox_scope = session`` in pytest's configuration starts one sandbox for all tests, with default settings,
and clears the scripted replies after each test.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from accucheck import Client
    from accucheck.testing import SandboxThread, Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("accucheck_sandbox_scope", "function (default) or session", default="function")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "accucheck(quick=, strict=, rate=, quota=, pending=, ...): how accucheck_sandbox behaves for this test, with"
        " any of accucheck.sandbox.Settings",
    )


@pytest.fixture(scope="session")
def _accucheck_session_sandbox() -> Iterator[SandboxThread]:
    from accucheck.testing import SandboxThread

    with SandboxThread() as sandbox:
        yield sandbox


@pytest.fixture
def accucheck_sandbox(request: pytest.FixtureRequest) -> Iterator[SandboxThread]:
    """A simulated AccuAuth: ``.answers({"987654321": "yes"})``, ``.script(number, [...])``, ``.requests``, ``.url``."""
    marker = request.node.get_closest_marker("accucheck")
    quick = marker is None or marker.kwargs.get("quick", True)
    for sandbox in _sandbox(request):
        with sandbox.standing_in(quick=quick):
            yield sandbox
        try:
            _fail_for_unexpected(sandbox)  # numbers checked after the test's own function
        finally:
            sandbox.forget()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail the test itself, rather than its teardown, if it checked a number that it has no answer for."""
    yield
    sandbox = getattr(item, "funcargs", {}).get("accucheck_sandbox")
    if sandbox is not None:
        _fail_for_unexpected(sandbox)


def _fail_for_unexpected(sandbox: SandboxThread) -> None:
    if unexpected := sandbox.unexpected:
        sandbox.forget()
        pytest.fail(
            f"accucheck checked numbers that this test has no answer for: {', '.join(unexpected)};"
            " name them in accucheck_sandbox.answers({...}), or allow any number with"
            " @pytest.mark.accucheck(strict=False)",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show where a test made a call that was refused, without its way through accucheck and asyncio."""
    if call.excinfo is not None and not item.config.getoption("fulltrace", False):
        entries = list(_entries(call.excinfo.tb))
        if entries and entries[-1].tb_frame.f_globals.get("__name__") == _GUARD:
            trimmed = None
            for entry in reversed(entries):
                if _INSIDE.isdisjoint(Path(entry.tb_frame.f_code.co_filename).parents):
                    trimmed = TracebackType(trimmed, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
            call.excinfo = pytest.ExceptionInfo.from_exception(call.excinfo.value.with_traceback(trimmed))
    return (yield)


_GUARD = "accucheck._http._transport"
_INSIDE = {Path(__file__).parent, Path(asyncio.__file__).parent}


def _entries(entry: TracebackType | None) -> Iterator[TracebackType]:
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _checked(settings: dict[str, Any]) -> Settings:
    from accucheck.testing import Settings

    try:
        return Settings(**settings)
    except ValueError as error:
        message = f"@pytest.mark.accucheck: {error}"
    pytest.fail(message, pytrace=False)


def _sandbox(request: pytest.FixtureRequest) -> Iterator[SandboxThread]:
    from accucheck.testing import SandboxThread, Settings

    marker = request.node.get_closest_marker("accucheck")
    settings: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
    settings.pop("quick", None)
    strict = settings.pop("strict", None)
    if request.config.getini("accucheck_sandbox_scope") == "session" and not settings:
        sandbox: SandboxThread = request.getfixturevalue("_accucheck_session_sandbox")
        sandbox.forget()
        sandbox.be_strict(strict)
        yield sandbox
        return
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(settings.keys() - known):
        pytest.fail(
            f"@pytest.mark.accucheck has no setting {unknown[0]!r};"
            f" there are quick, strict, {', '.join(sorted(known))}",
            pytrace=False,
        )
    with SandboxThread(_checked(settings), strict=strict) as sandbox:
        yield sandbox


@pytest.fixture
def accucheck_client(accucheck_sandbox: SandboxThread) -> Client:
    """A client of ``accucheck_sandbox``: ``check = await accucheck_client.check("987654321")``."""
    from accucheck import Client, Policy

    return Client(transport=accucheck_sandbox.transport(), policy=Policy.fast(), rate=10_000)
