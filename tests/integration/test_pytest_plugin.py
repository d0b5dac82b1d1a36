"""The fixtures in a user's test suite: pytest inside pytest, in separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

APP = """
import accucheck
from contextlib import asynccontextmanager

@asynccontextmanager
async def service():
    async with accucheck.Client(policy=accucheck.Policy.fast()) as client:
        async def is_on_whatsapp(phone):
            return (await client.check(phone)).whatsapp
        yield is_on_whatsapp
"""
ASYNC_PLUGINS = pytest.mark.parametrize(
    ("settings", "decorator"),
    [
        ("asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function", ""),
        ("asyncio_default_fixture_loop_scope = function", "@pytest.mark.asyncio"),
        ("addopts = -p no:asyncio", "@pytest.mark.anyio"),
    ],
    ids=["asyncio-auto", "asyncio-strict", "anyio"],
)
ANYIO = "addopts = -p no:asyncio"


def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, settings: str = ANYIO
) -> pytest.RunResult:
    for name in ("PYTEST_VERSION", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini(f"[pytest]\n{settings}\nfilterwarnings = error\n")
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    pytester.makepyfile(app=APP)
    pytester.makepyfile("import pytest, accucheck, httpx\nfrom app import service\n\n" + test)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider")


@ASYNC_PLUGINS
def test_code_under_test_reaches_the_sandbox_unchanged(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, settings: str, decorator: str
) -> None:
    test = f"""
{decorator}
async def test_it(accucheck_sandbox):
    accucheck_sandbox.answers({{"987654321": "yes", "912345678": ["PENDING", "reset", "no"]}})
    async with service() as is_on_whatsapp:
        assert await is_on_whatsapp("+51 987 654 321") is True
        assert await is_on_whatsapp("912345678") is False
    assert [r["number"] for r in accucheck_sandbox.requests] == ["987654321"] + ["912345678"] * 3
    assert accucheck_sandbox.charges() == {{"987654321": 1, "912345678": 2}}  # the lost reply was charged too
"""
    monkeypatch.setenv("ACCUCHECK_BASE_URL", "http://127.0.0.1:9")  # the developer's sandbox
    run(pytester, monkeypatch, test, settings).assert_outcomes(passed=1)


@ASYNC_PLUGINS
def test_the_client_of_the_sandbox_checks_and_streams(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, settings: str, decorator: str
) -> None:
    test = f"""
{decorator}
@pytest.mark.accucheck(pending=0.5, pending_for=0.05, errors=0.1)
async def test_it(accucheck_client, accucheck_sandbox):
    numbers = [str(987650000 + n) for n in range(50)]
    async with accucheck_client as client, client.stream(numbers) as outcomes:
        assert sum([isinstance(outcome, accucheck.Checked) async for outcome in outcomes]) == 50
    assert accucheck_sandbox.counts.charged == 50
"""
    run(pytester, monkeypatch, test, settings).assert_outcomes(passed=1)


def test_an_unexpected_number_fails_the_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
@pytest.mark.anyio
async def test_it(accucheck_sandbox, accucheck_client):
    accucheck_sandbox.answers({"987654321": "yes"})
    with pytest.raises(accucheck.InvalidArgument):
        await accucheck_client.check("999999999")

@pytest.mark.anyio
@pytest.mark.accucheck(strict=False)
async def test_not_strict(accucheck_sandbox, accucheck_client):
    accucheck_sandbox.answers({"987654321": "yes"})
    await accucheck_client.check("999999999")
"""
    result = run(pytester, monkeypatch, test)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*checked numbers that this test has no answer for: 999999999; name them in*"]
    )


def test_a_setting_that_does_not_exist_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
@pytest.mark.accucheck(qota=0)
def test_it(accucheck_sandbox):
    pass
"""
    result = run(pytester, monkeypatch, test)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*accucheck has no setting 'qota'; there are quick, strict, *quota,*"])


def test_a_setting_may_be_the_command_lines_text_and_a_wrong_one_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
@pytest.mark.anyio
@pytest.mark.accucheck(soft="unavailable=1.0")
async def test_it(accucheck_client):
    with pytest.raises(accucheck.Undetermined):
        await accucheck_client.check("987654321")

@pytest.mark.accucheck(quota="none")
def test_wrong(accucheck_sandbox):
    pass
"""
    result = run(pytester, monkeypatch, test)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["@pytest.mark.accucheck: quota is 'none': it must be a whole number"])


def test_one_sandbox_can_serve_a_whole_session(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
urls = set()

@pytest.mark.parametrize("verdict", ["yes", "no"])
@pytest.mark.anyio
async def test_it(accucheck_sandbox, accucheck_client, verdict):
    accucheck_sandbox.answers({"987654321": verdict})
    assert (await accucheck_client.check("987654321")).whatsapp is (verdict == "yes")
    urls.add(accucheck_sandbox.url)
    assert len(urls) == 1
"""
    settings = f"{ANYIO}\naccucheck_sandbox_scope = session"
    run(pytester, monkeypatch, test, settings).assert_outcomes(passed=2)


REAL = {
    "nothing": ("def test_it():", ""),
    "respx": (
        "import respx\n@respx.mock\ndef test_it():\n    respx.post(host='cloudapi.peru.accuauth.com').respond(json=OK)",
        "transport=httpx.AsyncHTTPTransport()",
    ),
    "pytest-httpx": (
        "def test_it(httpx_mock):\n    httpx_mock.add_response(method='POST', json=OK)",
        "transport=httpx.AsyncHTTPTransport()",
    ),
}


@pytest.mark.parametrize("library", REAL)
def test_the_real_vendor_is_not_dialled_and_mocks_of_httpx_work(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    head, transport = REAL[library]
    test = f"""
import asyncio
OK = {{"status": "OK", "result": {{"number": "+51987654321", "whatsapp": "yes"}}, "request_id": "TID1"}}

async def check(**arguments):
    async with accucheck.Client("a-test-id", "a-test-secret", **arguments) as client:
        return await client.check("987654321")

{head}
    with pytest.raises(RuntimeError, match="tried to call the real AccuAuth .* costs money"):
        asyncio.run(check())
    if {bool(transport)}:
        assert asyncio.run(check({transport})).whatsapp is True
"""
    run(pytester, monkeypatch, test, settings="addopts = -p no:asyncio").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "transport", ["httpx.AsyncHTTPTransport()", "accucheck.FastTransport()", "Retrier()", "OverAClient()"]
)
def test_a_custom_transport_does_not_reach_the_real_vendor_either(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    test = f"""
class Retrier(httpx.AsyncBaseTransport):
    def __init__(self):
        self.transports = [httpx.AsyncHTTPTransport()]

    async def handle_async_request(self, request):
        return await self.transports[0].handle_async_request(request)

class OverAClient(httpx.AsyncBaseTransport):
    def __init__(self):
        self.client = httpx.AsyncClient()

    async def handle_async_request(self, request):
        return await self.client.send(request)

def client():
    return accucheck.Client("a-test-id", "a-test-secret", transport={transport})

@pytest.mark.anyio
async def test_it():
    async with client() as checker:
        with pytest.raises(RuntimeError, match="tried to call the real AccuAuth .* costs money"):
            await checker.check("987654321")

@pytest.mark.anyio
async def test_the_sandbox_stands_in(accucheck_sandbox):
    accucheck_sandbox.answers({{"987654321": "yes"}})
    async with client() as checker:
        assert (await checker.check("987654321")).whatsapp is True
"""
    run(pytester, monkeypatch, test).assert_outcomes(passed=2)


def test_a_refused_call_is_shown_where_the_test_made_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
def test_it():
    accucheck.check_sync("987654321", api_id="a-test-id", api_secret="a-test-secret")
"""
    result = run(pytester, monkeypatch, test)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [">       accucheck.check_sync(*", "E       RuntimeError: a test tried to call*"]
    )
    result.stdout.no_fnmatch_line("*_client.py*")


def test_an_unexpected_number_of_the_vendor_without_sockets_fails_the_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
import unittest
from accucheck.testing import FakeVendor

class Test(unittest.IsolatedAsyncioTestCase):
    async def check(self, number):
        vendor = FakeVendor({"987654321": "yes"})
        async with accucheck.Client("a-test-id", "a-test-secret", transport=vendor) as client:
            try:
                return await client.check(number)
            except accucheck.CheckError:
                return None  # as code does that takes a failure for "unknown"

    async def test_expected(self):
        self.assertTrue((await self.check("987654321")).whatsapp)

    async def test_unexpected(self):
        await self.check("912345678")
"""
    result = run(pytester, monkeypatch, test)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*checked numbers that this test has no answer for: 912345678*"])


GUARDED = """
import asyncio, sys, threading, unittest, accucheck

MADE_ON_IMPORT = accucheck.Client("a-test-id", "a-test-secret")

async def check(client):
    await client.check("987654321")

def in_a_thread(call):
    raised = []
    def run():
        try:
            call()
        except Exception as error:
            raised.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise raised[0]

class Test(unittest.TestCase):
    def test_async(self):
        client = accucheck.Client("a-test-id", "a-test-secret")
        with self.assertRaisesRegex(RuntimeError, "a test .* costs money"):
            asyncio.run(check(client))

    def test_sync(self):
        with self.assertRaisesRegex(RuntimeError, "a test .* costs money"):
            accucheck.check_sync("987654321", api_id="a-test-id", api_secret="a-test-secret")

    def test_a_client_of_a_module(self):
        with self.assertRaisesRegex(RuntimeError, "a test .* costs money"):
            in_a_thread(lambda: asyncio.run(check(MADE_ON_IMPORT)))

class AsyncTest(unittest.IsolatedAsyncioTestCase):
    async def test_it(self):
        async with accucheck.Client("a-test-id", "a-test-secret", endpoint="cascade") as client:
            with self.assertRaisesRegex(RuntimeError, "a test .* costs money"):
                await client.check("987654321")

if __name__ == "__main__":
    unittest.main()
"""
MANAGE = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(INSTALLED_APPS=[], DATABASES={})
execute_from_command_line(sys.argv)
"""


def without_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as from a shell. A call to the real vendor that is not refused goes nowhere."""
    unset = ("PYTEST_VERSION", "PYTEST_CURRENT_TEST", "ACCUCHECK_BASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["HTTPS_PROXY"] = "http://127.0.0.1:9"
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "unittest"],
        ["-m", "unittest", "test_it.Test", "test_it.AsyncTest"],
        ["-m", "unittest", "discover", "-p", "test_it.py"],
        ["test_it.py"],
        ["-c", "import unittest; unittest.main('test_it')"],
        ["manage.py", "test"],
    ],
    ids=" ".join,
)
def test_no_runner_of_tests_dials_the_real_vendor(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "test_it.py").write_text(GUARDED)
    (tmp_path / "manage.py").write_text(MANAGE)
    done = without_pytest(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Ran 4 tests" in done.stderr


def test_outside_tests_the_real_vendor_is_dialled(tmp_path: Path) -> None:
    code = """
import unittest.mock, django.test, accucheck

@unittest.mock.patch("os.getcwd")
def main(_):
    options = {"api_id": "a-test-id", "api_secret": "a-test-secret", "policy": accucheck.Policy.fast()}
    try:
        accucheck.check_sync("987654321", **options)
    except accucheck.TransportError as error:
        print(error)

main()
"""
    done = without_pytest(tmp_path, "-c", code)
    assert "connect failed" in done.stdout, done.stderr


@pytest.mark.parametrize("scope", ["function", "session"])
def test_everything_holds_in_the_workers_of_xdist(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    test = (
        GUARDED
        + """
@pytest.mark.parametrize("number", ["987654321", "912345678", "999888777", "999888776"])
@pytest.mark.anyio
async def test_sandbox(accucheck_sandbox, number):
    accucheck_sandbox.answers({number: "yes"})
    async with service() as is_on_whatsapp:
        assert await is_on_whatsapp(number) is True
    assert accucheck_sandbox.charges()[number] == 1

@pytest.mark.anyio
async def test_unexpected(accucheck_sandbox, accucheck_client):
    accucheck_sandbox.answers({"987654321": "yes"})
    with pytest.raises(accucheck.InvalidArgument):
        await accucheck_client.check("999999999")
"""
    )
    settings = f"addopts = -p no:asyncio -n 2\naccucheck_sandbox_scope = {scope}"
    run(pytester, monkeypatch, test, settings).assert_outcomes(passed=8, failed=1)


def test_a_number_checked_after_the_test_itself_is_an_error_of_its_end(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
@pytest.fixture
async def late(accucheck_sandbox):
    accucheck_sandbox.answers({"987654321": "yes"})
    yield
    async with service() as is_on_whatsapp:
        with pytest.raises(accucheck.InvalidArgument):
            await is_on_whatsapp("999999999")

@pytest.mark.anyio
async def test_it(late):
    pass

@pytest.mark.xfail(strict=True)
@pytest.mark.anyio
async def test_unexpected(accucheck_sandbox, accucheck_client):
    accucheck_sandbox.answers({"987654321": "yes"})
    with pytest.raises(accucheck.InvalidArgument):
        await accucheck_client.check("999999999")
"""
    run(pytester, monkeypatch, test).assert_outcomes(passed=1, errors=1, xfailed=1)


def test_clients_of_the_sandbox_are_quick_unless_the_test_says_otherwise(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
@pytest.fixture
def fast(monkeypatch):
    made = []
    monkeypatch.setattr(accucheck.Policy, "fast", lambda: made.append(1) or accucheck.Policy())
    return made

async def rate(**options):
    async with accucheck.Client(**options) as client:
        await client.check("987654321")
        return client.stats.rate

@pytest.mark.anyio
async def test_quick(accucheck_sandbox, fast):
    assert await rate() > 1000
    assert fast == [1]
    await rate(policy=accucheck.Policy())
    assert fast == [1]

@pytest.mark.anyio
@pytest.mark.accucheck(quick=False)
async def test_as_in_production(accucheck_sandbox, fast):
    assert await rate() < 1000
    assert fast == []
"""
    run(pytester, monkeypatch, test).assert_outcomes(passed=2)


def test_the_environment_variable_allows_real_calls(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = """
from accucheck._http import FastTransport

@pytest.mark.anyio
async def test_it(monkeypatch):
    monkeypatch.setenv("ACCUCHECK_REAL_CALLS_IN_TESTS", "1")
    async with accucheck.Client("a-test-id", "a-test-secret") as client:
        assert isinstance(client._sender._transport, FastTransport)
    monkeypatch.delenv("ACCUCHECK_REAL_CALLS_IN_TESTS")
    async with accucheck.Client("a-test-id", "a-test-secret") as client:
        assert not isinstance(client._sender._transport, FastTransport)
"""
    run(pytester, monkeypatch, test).assert_outcomes(passed=1)
