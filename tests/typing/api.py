"""The public API as users call it, for mypy and pyright. Checked, never run: ``nox -s types``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime, timedelta
from typing import Any, TypedDict, assert_type

import tenacity

import accucheck


class Lead(TypedDict):
    name: str
    phone: str


class VipLead(Lead):
    manager: str


LEADS: list[Lead] = [{"name": "Ana", "phone": "987 654 321"}]


# Errors


async def one_number(client: accucheck.Client) -> bool | None:
    try:
        check = await client.check("987 654 321")
    except accucheck.InvalidNumber as error:
        assert_type(error.number, str)
        print(error.problem)
        return None
    except accucheck.CheckError as error:
        assert_type(error.status, str)
        assert_type(error.reason, str)
        assert_type(error.number, str)
        assert_type(error.request_id, str)
        assert_type(error.http_status, int | None)
        assert_type(error.calls, int)
        assert_type(error.retry_after, float | None)
        assert_type(error.possibly_double_charged, int)
        assert_type(error.to_dict(), dict[str, Any])
        return None
    except accucheck.UniformRefusals as error:
        assert_type(error.vendor_status, str)
        assert_type(error.vendor_reason, str)
        assert_type(error.numbers, int)
        raise
    except accucheck.Outage as error:
        assert_type(error.host, str)
        assert_type(error.cause, str)
        raise
    except accucheck.RunEnded as error:
        assert_type(error.done, int)
        assert_type(error.not_done, int)
        raise
    assert_type(check, accucheck.Check)
    return check.whatsapp


def every_failure_is_a_check_error(failed: accucheck.Failed[Lead]) -> accucheck.CheckError:
    return failed.error


def errors_are_values(one: accucheck.CheckError, other: accucheck.CheckError) -> set[accucheck.CheckError]:
    return {one, other} if one != other else {one}


# Records


def fields_of_a_check(check: accucheck.Check) -> set[accucheck.Check]:
    assert_type(check.number, str)
    assert_type(check.whatsapp, bool)
    assert_type(check.status_update, date | None)
    assert_type(check.signature, str | None)
    assert_type(check.business_user, bool | None)
    assert_type(check.avatar, bool | None)
    assert_type(check.request_id, str)
    assert_type(check.checked_at, datetime)
    assert_type(check.to_dict(), dict[str, Any])
    return {check}


def a_check_cannot_be_changed(check: accucheck.Check) -> None:
    check.whatsapp = False  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def outcomes_are_covariant(
    checked: accucheck.Checked[VipLead], failed: accucheck.Failed[VipLead]
) -> list[accucheck.Outcome[Lead]]:
    plain: accucheck.Checked[Lead] = checked
    worse: accucheck.Failed[Lead] = failed
    return [plain, worse]


def an_outcome_is_matched(outcome: accucheck.Outcome[Lead]) -> str:
    match outcome:
        case accucheck.Checked(item=lead, check=check):
            assert_type(lead, Lead)
            assert_type(check, accucheck.Check)
            return f"{lead['name']}: {check.whatsapp}"
        case accucheck.Failed(item=lead, error=error):
            assert_type(lead, Lead)
            assert_type(error, accucheck.CheckError)
            return f"{lead['name']}: {error.reason}"


def an_outcome_is_written(outcome: accucheck.Outcome[Lead]) -> dict[str, Any]:
    assert_type(outcome.calls, int)
    assert_type(outcome.possibly_double_charged, int)
    assert_type(outcome.index, int)
    return outcome.to_dict()


# Streams


async def a_list_of_rows(client: accucheck.Client) -> list[accucheck.Outcome[Lead]]:
    outcomes: list[accucheck.Outcome[Lead]] = []
    async with client.stream(LEADS, number=lambda row: row["phone"], workers=50, rate=20) as stream:
        async for outcome in stream:
            outcomes.append(outcome)
        assert_type(stream.stats, accucheck.Stats)
    return outcomes


async def numbers_alone(client: accucheck.Client) -> None:
    async with client.stream(["987 654 321", "987 654 322"]) as stream:
        async for outcome in stream:
            assert_type(outcome.item, str)
    async with client.stream(iter([987_654_321])) as stream_of_ints:
        async for number in stream_of_ints:
            assert_type(number.item, int)


async def rows_without_a_number(client: accucheck.Client) -> None:
    client.stream(LEADS)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def rows_as_they_come(client: accucheck.Client, rows: AsyncIterator[Lead]) -> None:
    async with client.stream(
        rows,
        number=lambda row: row["phone"],
        rate="auto",
        ordered=True,
        max_calls=1_000,
        ledger="answers.ledger",
        fresh_within=timedelta(days=30),
        retry_failed=True,
        keep_going=True,
        pending="later",
        poll_floor=30,
        on_event=an_event,
    ) as stream:
        async for outcome in stream:
            assert_type(outcome.item, Lead)


def an_event(event: accucheck.Event) -> None:
    match event:
        case accucheck.CallEnded(reply=reply, seconds=seconds):
            assert_type(reply, str)
            assert_type(seconds, float)
        case accucheck.CircuitChanged(opened=opened):
            assert_type(opened, bool)
        case accucheck.Settled(status=status, whatsapp=whatsapp):
            assert_type(status, str)
            assert_type(whatsapp, bool | None)
        case accucheck.RunStarted(run_id=run_id) | accucheck.RunFinished(run_id=run_id):
            assert_type(run_id, str)


# Policy


def any_tenacity_strategy() -> accucheck.Policy:
    def stop(state: tenacity.RetryCallState) -> bool:
        return state.attempt_number > 3

    return accucheck.Policy(
        retry_wait=tenacity.wait_fixed(5) + tenacity.wait_random(0, 1),
        retry_stop=stop,
        poll_wait=lambda state: 20.0 * state.attempt_number,
        poll_stop=tenacity.stop_after_delay(600) | tenacity.stop_after_attempt(9),
        refusal_stop=tenacity.stop_never,
        long_wait=30.0,
        on_lost_answer="fail",
        retry_budget=0.2,
    )


def what_is_no_strategy_is_refused() -> None:
    accucheck.Policy(retry_wait=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    accucheck.Policy(on_lost_answer="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Numbers


def a_number_is_an_int() -> Iterator[int]:
    yield accucheck.normalize("+51 987 654 321")
    yield accucheck.normalize(987_654_321, mobile_only=True)


# The synchronous client


def without_a_loop() -> None:
    assert_type(accucheck.check_sync("987 654 321"), accucheck.Check)
    accucheck.check_sync("987 654 321", api_id="id", endpoint="basic", deadline=5)
    accucheck.SyncClient(base="https://x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with accucheck.SyncClient(rate=50, ledger="answers.ledger") as client:
        assert_type(client.check("987 654 321", timeout=5, ledger="answers.ledger"), accucheck.Check)
        assert_type(client.check_many(["987 654 321"], max_calls=5), list[accucheck.Outcome[str]])
        with client.stream(LEADS, number=lambda row: row["phone"], key=lambda row: row["name"]) as stream:
            assert_type(stream.run_id, str)
            for outcome in stream:
                assert_type(outcome.item, Lead)
        client.stream(LEADS)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def many_at_once(client: accucheck.Client, options: accucheck.StreamOptions) -> None:
    found = await client.check_many(
        LEADS, number=lambda row: row["phone"], workers=5, ledger="answers.ledger"
    )
    assert_type(found, list[accucheck.Outcome[Lead]])
    assert_type(await client.check_many(["987 654 321"], **options), list[accucheck.Outcome[str]])
    await client.check("987 654 321", timeout=accucheck.Timeouts(read=5), key="request-7")
    await client.check_many(["1"], worker=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
