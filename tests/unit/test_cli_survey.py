from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

from accucheck._errors import NumberProblem
from accucheck._models import Check, Settlement, Stats
from accucheck._store import MemoryStore
from accucheck.cli._ledger import known_in, nothing_known
from accucheck.cli._survey import PROBLEMS, UNREADABLE, sample_facts, survey


async def test_a_survey_counts_rows_reasons_duplicates_and_numbers_to_check() -> None:
    answer = Check(number="+51987654321", whatsapp=True, checked_at=datetime.now(UTC))
    unknown: list[int] = []

    async def find(numbers: Sequence[int]) -> dict[int, Settlement]:
        return {n: Settlement(n, answer) for n in numbers if n == 987654321}

    found = await survey(
        iter(["987654321", "+51 987 654 321", "912345678", "912345678", "hola", "", "123", "(01) 456-7890"]),
        find,
        on_unknown=unknown.append,
    )
    assert found.rows == 8
    assert found.invalid == {"letters": 1, "empty": 1, "too_short": 1}
    assert found.duplicates == 2
    assert found.landlines == 1
    assert (found.known, found.to_ask, found.distinct) == (1, 2, 3)
    assert unknown == [912345678, 14567890]
    assert found.oldest == answer.checked_at


async def test_a_list_without_a_ledger_is_all_to_ask() -> None:
    numbers = [str(900_000_000 + place) for place in range(1500)]
    found = await survey(iter(numbers), nothing_known)
    assert (found.rows, found.to_ask, found.known) == (1500, 1500, 0)


async def test_answers_fresh_at_the_start_do_not_expire_during_the_run() -> None:
    clock = [1_000_000_000.0]
    then = datetime.fromtimestamp(clock[0] - 3600, UTC)
    store = MemoryStore()
    await store.settle([Settlement(987654321, Check(number="+51987654321", whatsapp=True, checked_at=then))])
    fresh = timedelta(hours=2)
    find = known_in(store, "advanced", fresh_within=fresh, now=lambda: clock[0])
    clock[0] += 5 * 3600
    assert set(await find([987654321])) == {987654321}
    assert not await known_in(store, "advanced", fresh_within=fresh, now=lambda: clock[0])([987654321])


def test_a_sample_shows_the_share_its_interval_and_the_cost_of_the_rest() -> None:
    stats = Stats(yes=300, no=195, failed=5, calls=600, elapsed=10.0, read=500)
    facts = dict(sample_facts(stats, 500, 10_500, "auto"))
    assert facts["sample"] == "500 of 10,500 numbers not in the ledger"
    assert facts["failed"] == "5 of the sample got no answer"
    assert facts["on WhatsApp"] == "60.6% of 495 answered (95 % interval: 56.2% to 64.8%)"
    assert facts["the rest"] == "10,000 numbers: about 12,000 calls, 3 min 20 s at 60 calls/s"
    assert facts[""] == "5,624 to 6,481 of them on WhatsApp"


def test_a_sample_of_a_limited_rate_counts_on_that_rate() -> None:
    facts = dict(sample_facts(Stats(yes=1, no=1, calls=2, elapsed=0.1), 2, 102, 10.0))
    assert facts["the rest"] == "100 numbers: about 100 calls, 10 s at 10 calls/s"


def test_a_sample_without_an_answer_claims_nothing() -> None:
    facts = dict(sample_facts(Stats(failed=5, calls=25, elapsed=1.0), 5, 100, "auto"))
    assert facts["on WhatsApp"] == "unknown: no number in the sample was answered"
    assert "the rest" not in facts


def test_every_problem_of_a_number_has_words_for_a_person() -> None:
    assert set(PROBLEMS) == {*get_args(NumberProblem), UNREADABLE}
