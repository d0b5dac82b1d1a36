"""The sandbox's answers: deterministic, plausible, and sometimes hostile."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck.sandbox import request_id, truth
from accucheck.sandbox._truth import draws, is_national, pending_seconds

nationals = st.one_of(
    st.from_regex(r"9[0-9]{8}", fullmatch=True), st.from_regex(r"[14-8][0-9]{7}", fullmatch=True)
)
MANY = [truth(900_000_000 + 7919 * step) for step in range(4000)]


@given(national=nationals, seed=st.integers())
def test_the_answer_depends_only_on_number_and_seed(national: str, seed: int) -> None:
    assert truth(national, seed) == truth("+51" + national, seed) == truth(int(national), seed)
    assert request_id(national, seed) == request_id("+51" + national, seed)


@given(national=nationals, seed=st.integers(0, 1000))
def test_every_answer_keeps_to_the_vendors_page(national: str, seed: int) -> None:
    result = truth(national, seed)
    assert result["number"] == "+51" + national
    assert {result["whatsapp"], result.get("business_user", "no"), result.get("avatar", "no")} <= {
        "yes",
        "no",
    }
    status_update = result.get("status_update", "")
    assert status_update == "" or (len(status_update) == 8 and status_update.isdecimal())
    assert set(result) <= {"number", "whatsapp", "status_update", "signature", "business_user", "avatar"}


def test_the_answers_are_the_same_in_every_process_and_release() -> None:
    expected = {
        "number": "+51987654321",
        "whatsapp": "yes",
        "status_update": "20170824",
        "signature": "¿Qué más da? Año nuevo, vida nueva",
        "business_user": "no",
        "avatar": "no",
    }
    assert truth("987654321", 7) == expected
    assert request_id("987654321", 7) == "TIDfacade00e0567b78e14d74a326c3d088"
    program = "from accucheck.sandbox import truth; print(ascii(truth('987654321', 7)))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == ascii(expected)


def test_another_seed_gives_other_answers() -> None:
    numbers = [str(900_000_000 + step) for step in range(100)]
    assert [truth(number, 1) for number in numbers] != [truth(number, 2) for number in numbers]
    assert len({request_id(number, seed) for number in numbers for seed in (1, 2)}) == 200


def test_about_sixty_in_a_hundred_are_on_whatsapp() -> None:
    share = sum(result["whatsapp"] == "yes" for result in MANY) / len(MANY)
    assert 0.57 < share < 0.63


@pytest.mark.parametrize("field", ["status_update", "signature", "business_user", "avatar"])
def test_optional_fields_are_missing_now_and_then(field: str) -> None:
    assert any(field not in result for result in MANY)
    assert any(field in result for result in MANY)


@pytest.mark.parametrize("field", ["status_update", "signature"])
def test_text_fields_are_empty_now_and_then(field: str) -> None:
    assert any(result.get(field) == "" for result in MANY if result["whatsapp"] == "yes")


@pytest.mark.parametrize("trouble", ["=HYPERLINK(", "\x1b[", "<script>", "\n", "🇵🇪", "ñ", "\u202e", '"'])
def test_signatures_are_hostile_now_and_then(trouble: str) -> None:
    assert any(trouble in result.get("signature", "") for result in MANY)


@pytest.mark.parametrize(
    "number",
    ["", "98765432", "9876543210", "+1202555", "51987654321", "٩٨٧٦٥٤٣٢١", "987654321\n", "24567890"],
)
def test_numbers_that_the_vendor_would_refuse_have_no_answer(number: str) -> None:
    with pytest.raises(ValueError, match="is not a Peruvian number"):
        truth(number)


def test_mobiles_and_landlines_are_national_numbers() -> None:
    assert is_national("987654321")
    assert is_national("14567890")
    assert not is_national("087654321")


@given(national=nationals, seconds=st.floats(0.1, 100))
def test_a_pending_number_is_ready_within_a_fifth_of_the_usual_time(national: str, seconds: float) -> None:
    assert pending_seconds(national, 7, 0.0, seconds) == 0
    assert 0.8 * seconds <= pending_seconds(national, 7, 1.0, seconds) <= 1.2 * seconds


def test_the_share_of_pending_numbers_is_as_asked() -> None:
    pending = sum(pending_seconds(str(900_000_000 + step), 7, 0.1, 5) > 0 for step in range(4000))
    assert 320 < pending < 480


@given(purpose=st.text(), seed=st.integers(), of=st.text())
def test_chance_is_below_one(purpose: str, seed: int, of: str) -> None:
    assert all(0 <= draw < 1 for draw in draws(purpose, seed, of))
