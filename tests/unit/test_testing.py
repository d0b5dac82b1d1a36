"""The fake vendor: the sandbox's account without sockets."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest

import accucheck
from accucheck._arguments import BASE_URL
from accucheck.testing import FakeVendor, SandboxThread, Scripted, Settings, truth

NUMBER = "987654321"


def client(vendor: FakeVendor) -> accucheck.Client:
    return accucheck.Client(
        "an-id-of-a-user", "a-secret-of-a-user", transport=vendor, policy=accucheck.Policy.fast(), rate=10_000
    )


async def test_numbers_are_answered_as_written_and_requests_are_kept() -> None:
    vendor = FakeVendor({NUMBER: "yes", "912345678": ["PENDING", "reset", "cut", "INTERNAL_ERROR", "no"]})
    async with client(vendor) as checker:
        assert (await checker.check(NUMBER)).whatsapp is True
        assert (await checker.check("912345678")).whatsapp is False
    assert [line["call"] for line in vendor.requests if line["number"] == "912345678"] == [1, 2, 3, 4, 5]
    assert vendor.charges() == {NUMBER: 1, "912345678": 3}  # the two lost replies were charged too


async def test_without_replies_every_number_has_the_sandboxs_answer() -> None:
    vendor = FakeVendor(settings=Settings(price=0.5))
    async with client(vendor) as checker:
        assert (await checker.check(NUMBER)).whatsapp is (truth(NUMBER)["whatsapp"] == "yes")
    assert vendor.counts.spent == 0.5
    assert [line.amount for line in vendor.invoice()] == ["0.5"]


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ("OUT_OF_QUOTA", accucheck.OutOfQuota),
        ("KEY_EXPIRED", accucheck.KeyExpired),
        ("INVALID_ARGUMENT", accucheck.InvalidArgument),
        ("unavailable", accucheck.Undetermined),
        ("stall", accucheck.TransportError),
        (Scripted(body=b"<html>"), accucheck.ProtocolError),
    ],
)
async def test_every_failure_can_be_written(replies: str, error: type[Exception]) -> None:
    async with client(FakeVendor({NUMBER: replies})) as checker:
        with pytest.raises(error):
            await checker.check(NUMBER)


UNEXPECTED = rf"has no answer for: {NUMBER}; name them in answers"


async def test_an_unexpected_number_is_refused_and_fails_the_test_when_the_client_closes() -> None:
    vendor = FakeVendor({"912345678": "yes"})
    checker = client(vendor)
    with pytest.raises(accucheck.InvalidArgument, match="did not expect"):
        await checker.check(NUMBER)
    assert vendor.unexpected == [NUMBER]
    with pytest.raises(AssertionError, match=UNEXPECTED):
        await checker.aclose()


async def test_a_vendor_that_is_never_closed_can_be_checked_for_unexpected_numbers() -> None:
    vendor = FakeVendor(strict=True)
    vendor.assert_all_expected()
    checker = client(vendor)
    with pytest.raises(AssertionError, match=UNEXPECTED):
        with vendor:
            with pytest.raises(accucheck.InvalidArgument):
                await checker.check(NUMBER)
    vendor.forget()
    vendor.assert_all_expected()
    await checker.aclose()


async def test_without_strict_numbers_without_a_reply_are_allowed() -> None:
    async with client(FakeVendor({"912345678": "yes"}, strict=False)) as checker:
        assert (await checker.check(NUMBER)).whatsapp is (truth(NUMBER)["whatsapp"] == "yes")


def test_an_unexpected_number_fails_at_the_end_of_a_sandbox_in_a_thread() -> None:
    with pytest.raises(AssertionError, match=UNEXPECTED):
        with SandboxThread(strict=True) as sandbox, pytest.raises(accucheck.InvalidArgument):
            accucheck.check_sync(NUMBER, api_id="sandbox", api_secret="sandbox", base_url=sandbox.url)


def test_a_sandbox_in_a_thread_is_usable_from_code_without_a_loop() -> None:
    with SandboxThread(Settings(rate=1000)) as sandbox:
        sandbox.answers({NUMBER: "yes"})

        async def check() -> bool:
            async with accucheck.Client("sandbox", "sandbox", base_url=sandbox.url) as checker:
                return (await checker.check(NUMBER)).whatsapp

        assert asyncio.run(check()) is True
        assert [line["number"] for line in sandbox.requests] == [NUMBER]


ENVIRONMENT = ("ACCUCHECK_BASE_URL", "ACCUCHECK_API_ID", "ACCUCHECK_API_SECRET")


def test_a_sandbox_stands_in_for_every_client_and_for_child_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCUCHECK_BASE_URL", "http://127.0.0.1:9")  # a developer's own sandbox
    monkeypatch.setenv("ACCUCHECK_API_ID", "an-id-of-a-user")
    monkeypatch.delenv("ACCUCHECK_API_SECRET", raising=False)
    before = [os.environ.get(name) for name in ENVIRONMENT]
    code = "import accucheck; print(accucheck.check_sync('912345678').whatsapp)"
    with SandboxThread().standing_in() as sandbox:
        sandbox.answers({NUMBER: "yes", "912345678": "no"})
        assert accucheck.check_sync(NUMBER).whatsapp is True
        assert accucheck.check_sync(NUMBER, api_id="another-id", api_secret="another-secret").whatsapp is True
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("False\n", "")
        assert sandbox.charges() == {NUMBER: 2, "912345678": 1}
    assert [os.environ.get(name) for name in ENVIRONMENT] == before
    with pytest.raises(RuntimeError, match=r"standing_in\(\) .* base_url= or ACCUCHECK_BASE_URL"):
        accucheck.check_sync(NUMBER, api_id="an-id", api_secret="a-secret", base_url=BASE_URL)


def test_a_stand_in_is_called_whatever_runs_and_fails_for_unexpected_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCUCHECK_REAL_CALLS_IN_TESTS", "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(AssertionError, match=UNEXPECTED):
        with SandboxThread(strict=True).standing_in(), pytest.raises(accucheck.InvalidArgument):
            accucheck.check_sync(NUMBER)


def test_errors_name_the_stand_in() -> None:
    numbers = [f"98765432{digit}" for digit in range(5)]
    with SandboxThread().standing_in() as sandbox, accucheck.SyncClient() as checker:
        sandbox.answers(dict.fromkeys(numbers, "bad_gateway"))
        place = sandbox.url.removeprefix("http://")
        for number in numbers:
            with pytest.raises(accucheck.CheckError) as raised:
                checker.check(number)
    assert f"{place} (standing in for cloudapi.peru.accuauth.com) is unavailable" in str(raised.value)


def test_a_sandbox_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        SandboxThread().url  # noqa: B018


async def test_the_last_reply_of_a_list_repeats() -> None:
    vendor = FakeVendor({NUMBER: ["PENDING", "no"]})
    for _ in range(3):  # a client remembers its answers: each of these is a new one
        async with client(vendor) as checker:
            assert (await checker.check(NUMBER)).whatsapp is False
    assert vendor.charges() == {NUMBER: 3}


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (
            {"whatsap": "yes"},
            r"no field 'whatsap' \(did you mean 'whatsapp'\?\): use number, whatsapp, status_update",
        ),
        ({"whatsapp": True}, "whatsapp of a reply is True: AccuAuth sends text, such as 'yes'"),
        ({"whatsapp": "Yes"}, r"whatsapp of a reply is 'Yes' \(did you mean 'yes'\?\)"),
        ("Yes", r"'Yes' is not a reply \(did you mean 'yes'\?\): use checking, no, unavailable, yes, reset"),
        ("NO", r"did you mean 'no'\?"),
        ("pending", r"did you mean 'PENDING'\?"),
        ("maybe", "'maybe' is not a reply: use"),
        ("", "'' is not a reply: use"),
        (["yes", "Reset"], r"did you mean 'reset'\?"),
        ([], f"the list of replies for {NUMBER} is empty"),
        (True, "True is not a reply: use a word, a mapping or Scripted"),
        ([True], "True is not a reply: use a word, a mapping or Scripted"),
        (None, "None is not a reply: use a word, a mapping or Scripted"),
    ],
)
def test_a_misspelt_reply_is_refused(reply: Any, sentence: str) -> None:
    vendor = FakeVendor()
    with pytest.raises((ValueError, TypeError), match=sentence):
        vendor.answers({NUMBER: reply})
    assert vendor.strict is None
    assert not vendor._scripts.left()


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="fault is 'rest': use reset, cut, stall"):
        Scripted(fault="rest")  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["BRAND_NEW", Scripted(status="brand new")])
async def test_an_unknown_status_can_be_spelled_out(status: str | Scripted) -> None:
    async with client(FakeVendor({NUMBER: status})) as checker:
        with pytest.raises(accucheck.Undetermined, match=r"(?i)brand.new"):
            await checker.check(NUMBER)


async def test_an_unknown_field_can_be_spelled_out() -> None:
    reply = Scripted(result={"whatsapp": "yes", "verified_name": "Ana"})
    async with client(FakeVendor({NUMBER: reply})) as checker:
        assert (await checker.check(NUMBER)).whatsapp is True
