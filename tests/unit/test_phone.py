"""The normalizer: what lead lists contain, and what cannot be a Peru number."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accucheck._errors import InvalidNumber
from accucheck._phone import e164, mask, normalize, numbers_in

every_time_the_same = settings(derandomize=True, deadline=None, max_examples=100)

mobiles = st.integers(900_000_000, 999_999_999)
lima_lines = st.integers(12_000_000, 17_999_999)


def problem_of(text: object, *, mobile_only: bool = False) -> str:
    with pytest.raises(InvalidNumber) as refused:
        normalize(text, mobile_only=mobile_only)  # type: ignore[arg-type]
    return refused.value.problem


@pytest.mark.parametrize(
    "text",
    [
        "987654321",
        " 987654321\n",
        "+51 987 654 321",
        "+51987654321",
        "51987654321",
        "0051987654321",
        "00 51 987-654-321",
        "051987654321",
        "0987654321",
        "+51 0 987654321",
        "(+51) 987654321",
        "( +51 ) 987.654.321",
        "+5151987654321",
        "++51987654321",
        "+0051987654321",
        "987-654-321",
        "987,654,321",
        "987/654/321",
        "98 76 54 321",
        "#987654321",
        "*987654321",
        "987–654–321",
        "９８７６５４３２１",
        "＋５１　９８７６５４３２１",
        "٩٨٧٦٥٤٣٢١",
        "9\ufe0f\u20e38\ufe0f\u20e37\ufe0f\u20e36\ufe0f\u20e35\ufe0f\u20e34\ufe0f\u20e33\ufe0f\u20e32\ufe0f\u20e31\ufe0f\u20e3",
        "987\u2009654\u2009321",
        "987\u00a0654\u202f321",
        "\ufeff987654321\u200b",
        "\u202a+51 987 654 321\u202c",
        "987\u00ad654\u200d321",
        "987654321\0",
    ],
)
def test_a_mobile_is_read_with_any_spacing_and_prefix(text: str) -> None:
    assert normalize(text) == 987_654_321


@pytest.mark.parametrize(
    "text",
    [
        "987654321.0",
        "987654321.00",
        "987654321,00",
        "51987654321.0",
        "987,654,321.00",
        "987.654.321,0",
        "+51987654321.0",
        "9.87654321E8",
        "9.87654321e8",
        "9.87654321E+08",
        "9,87654321E+08",
        "5.1987654321E+10",
        "5,1987654321E10",
        "'987654321",
        "’987654321",
        '"987654321"',
        "'987654321'",
        '="987654321"',
        "“987654321”",
    ],
)
def test_numbers_mangled_by_spreadsheets_are_restored(text: str) -> None:
    assert normalize(text) == 987_654_321


@pytest.mark.parametrize(
    "text",
    [
        "tel:+51987654321",
        "TEL:+51-987-654-321",
        "tel:+51987654321;ext=12",
        "tel:987654321;phone-context=+51",
        "tel:987654321;ext=7;phone-context=+51",
        "tel:987-654-321;phone-context=example.pe",
        "tel:%2B51%20987654321",
        "tel:987654321",
        "Tel: 987 654 321",
        "cel: 987654321",
        "Cel.987654321",
        "CELULAR 987654321",
        "Móvil: +51 987654321",
        "N° 987654321",
        "Teléfono/987654321".replace("/", " "),
        "Nro. cel: 987654321",
        "https://wa.me/51987654321?text=hola",
        "wa.me/+51987654321",
        "https://api.whatsapp.com/send?phone=51987654321&text=x",
        "51987654321@c.us",
        "51987654321@s.whatsapp.net",
        "whatsapp:+51987654321",
        "987654321 anexo 12",
    ],
)
def test_text_around_a_mobile_is_stripped(text: str) -> None:
    assert normalize(text) == 987_654_321


@pytest.mark.parametrize(
    "text",
    [
        # Exports of lead forms and CRMs.
        "p:+51987654321",
        "phone:987654321",
        "Phone: +51 987 654 321 (verified)",
        "mobile;987654321",
        "Tel1: 987654321",
        "Celular 2: 987 654 321",
        "1) 987654321",
        "WhatsApp2: 987654321",
        "RPM #987654321",
        "RPM: #987654321",
        "RPC:987654321",
        "RPC *987654321",
        "987654321 (Claro)",
        "987654321 (mamá)",
        "(Movistar) 987-654-321",
        "987654321 - Entel",
        "Juan 987654321",
        "Sra. Rosa Ñahui: 987 654 321",
        "llamar al 987654321 por la tarde",
        "987654321 sólo WhatsApp!",
        "📱 987654321",
        "☎987654321",
        "🇵🇪 +51 987654321",
        "+51 (Perú) 987654321",
        "Perú +51 987654321",
        "PE +51-987-654-321",
        "987654321, 987654321",
        "Cel: 987654321 / Wsp: +51 987 654 321",
        "cel 987654321.0",
        "987'654'321",
        "[987654321](tel:+51987654321)",
        # Links and ids.
        "https://wa.me/51987654321?text=Hola",
        "https://wa.me/51987654321?text=Hola soy cliente 123456789",
        "Escríbeme: https://wa.me/51987654321",
        "wa.me/987654321",
        "https://wa.me/c/51987654321",
        "whatsapp://send?phone=51987654321&text=Hola",
        "whatsapp://send?text=Hola&phone=51987654321",
        "https://api.whatsapp.com/send?l=es&phone=51987654321&text=Hola",
        "https://web.whatsapp.com/send?l=es&phone=51987654321",
        "https://api.whatsapp.com/send/?phone=%2B51987654321",
        "https://api.whatsapp.com/send/?phone=51987654321&text&type=phone_number&app_absent=0",
        "https://www.whatsapp.com/send?phone=+51 987654321",
        "intent://send?phone=51987654321#Intent;package=com.whatsapp;end",
        "https://crm.example.pe/l?id=12345678&phone=51987654321",
        "%2B51987654321",
        "%2B51%20987%20654%20321",
        "whatsapp: 51987654321@c.us",
        "callto:+51987654321",
        "sms:+51987654321",
        # Invisible characters.
        "987654321\u3164",
        "\u3164987654321",
        "\u2060987654321\u2064",
        "\u2068987654321\u2069",
        "+51\ufe0f987654321",
        "987\u00a0654\u00a0321\u2800",
        "\uffa0987654321\u115f",
        "９８７６５４３２１（Ｃｌａｒｏ）",
        # Lima's code before a mobile can mean only that mobile.
        "+51 1 987 654 321",
        "(01) 987-654-321",
        "01987654321",
        "0051 01 987654321",
    ],
)
def test_one_number_is_found_in_any_text(text: str) -> None:
    assert normalize(text) == 987_654_321
    assert numbers_in(text) == [987_654_321]


@pytest.mark.parametrize(
    ("text", "problem", "why"),
    [
        ("987654321@gmail.com", "letters", "email address"),
        ("https://wa.me/message/ABC123", "letters", "link without a phone number"),
        ("https://chat.whatsapp.com/Ab987654321", "letters", "link without a phone number"),
        ("https://example.com/987654321", "letters", "link without a phone number"),
        ("DNI 12345678", "letters", "labeled 'dni'"),
        ("RUC: 987654321", "letters", "labeled 'ruc'"),
        ("Código 987654321", "letters", "labeled 'codigo'"),
        ("S/. 987654321$", "letters", "do not belong in a phone number"),
        ("987654321l", "letters", "“l” between its digits"),
        ("98765O4321", "letters", "“O” between its digits"),
        ("987654321 (24h)", "several", r"other digits besides the number \(24\)"),
        ("Av. Arequipa 1234 - 987654321", "several", r"other digits besides the number \(1234\)"),
        ("987654321 / 22", "several", r"other digits besides the number \(22\)"),
        ("DNI 12345678 cel 987654321", "several", "other digits besides the number"),
        ("+1 202 555 0123 / 987654321", "several", "other digits"),
        ("9876543210", "too_long", r"has 10 digits; a Peruvian mobile has 9 \(typo\?\)"),
        ("98765432", "too_short", r"has 8 digits; a Peruvian mobile has 9 \(typo\?\)"),
        ("Cel. 98765432", "too_short", "has 8 digits"),
        ("(044) 987 654 321", "too_long", "area code 044 before a mobile"),
        ("1987654321", "too_long", "has 10 digits"),
    ],
)
def test_the_reason_names_what_may_be_wrong(text: str, problem: str, why: str) -> None:
    with pytest.raises(InvalidNumber, match=why) as refused:
        normalize(text)
    assert refused.value.problem == problem


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("987650001 ::: 987650002", [987_650_001, 987_650_002]),
        ("987650003, 987650004", [987_650_003, 987_650_004]),
        ("987650005; 01 4441234", [987_650_005, 14_441_234]),
        ("987650008\n987650009", [987_650_008, 987_650_009]),
        ("987650006 / 07", [987_650_006]),
        ("Cel: 987650001 / Casa: (01) 444-1234", [987_650_001, 14_441_234]),
        ("987 650 001 987 650 002", [987_650_001, 987_650_002]),
        ("987650001987650002", [987_650_001, 987_650_002]),
        ("+51987650001+51987650002", [987_650_001, 987_650_002]),
        ("987650001 y 987650002 o 987650003", [987_650_001, 987_650_002, 987_650_003]),
        ("987650001 (mamá)\n01-4441234 anexo 12 (casa)", [987_650_001, 14_441_234]),
        ("https://wa.me/51987650001 https://wa.me/51987650002", [987_650_001, 987_650_002]),
        ("987650001\nn/a\n987650001", [987_650_001]),
        ("987650001 / +1 202 555 0123", [987_650_001]),
        ("987650001", [987_650_001]),
    ],
)
def test_all_numbers_of_a_cell_can_be_read(text: str, numbers: list[int]) -> None:
    assert numbers_in(text) == numbers


def test_numbers_in_leaves_out_landlines_with_mobile_only() -> None:
    assert numbers_in("987650005; 01 4441234", mobile_only=True) == [987_650_005]
    with pytest.raises(InvalidNumber, match="landline"):
        numbers_in("01 4441234", mobile_only=True)
    with pytest.raises(InvalidNumber, match="empty"):
        numbers_in("")


@pytest.mark.parametrize("text", ["+51 1 9123456", "01-912-3456", "(01) 9123456", "019123456"])
def test_the_lines_of_lima_that_start_with_9_are_numbers(text: str) -> None:
    assert normalize(text) == 19_123_456


@pytest.mark.parametrize(
    ("text", "national"),
    [
        ("(01) 456-7890", 14_567_890),
        ("01 4567890", 14_567_890),
        ("014567890", 14_567_890),
        ("14567890", 14_567_890),
        ("+51 1 456 7890", 14_567_890),
        ("+51 (01) 4567890", 14_567_890),
        ("0051 1 4567890", 14_567_890),
        ("511 4567890", 14_567_890),
        ("014567890.0", 14_567_890),
        ("tel:4567890;phone-context=+51-1", 14_567_890),
        ("(01) 456-7890 anexo 123", 14_567_890),
        ("01-4567890 ext. 22", 14_567_890),
        ("014567890x5", 14_567_890),
        ("044-212345", 44_212_345),
        ("+51 44 212345", 44_212_345),
        ("14.56.78.00", 14_567_800),
        ("0800-12345", 80_012_345),
    ],
)
def test_a_fixed_line_keeps_its_area_code(text: str, national: int) -> None:
    assert normalize(text) == national


@pytest.mark.parametrize("text", ["51363636", "051-363636", "+51 51 363636", "5151363636", "0051 51 363636"])
def test_the_area_code_of_puno_is_not_taken_for_the_country_code(text: str) -> None:
    assert normalize(text) == 51_363_636


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        (" \t\u00a0\u200b", "empty"),
        ("-", "empty"),
        ("N/A", "empty"),
        ("NaN", "empty"),
        ("null", "empty"),
        ("\\N", "empty"),  # what MySQL and Hive export for NULL
        ("98765", "too_short"),
        ("98765432", "too_short"),
        ("98765432.0", "too_short"),
        ("+51", "too_short"),
        ("000000000", "too_short"),
        ("+51 98765432", "too_short"),
        ("9876543210", "too_long"),
        ("+51 9876543210", "too_long"),
        ("9" * 500, "too_long"),
        ("9 " * 5000, "too_long"),
        ("4567890", "unknown_area"),
        ("212345", "unknown_area"),
        ("33123456", "unknown_area"),
        ("(099) 123456", "too_short"),
        ("+51 33 123456", "unknown_area"),
        ("+51363636", "unknown_area"),
        ("hola", "letters"),
        ("98765432l", "letters"),
        ("986 543 21O", "letters"),
        ("987654E21", "letters"),
        ("1-800-FLOWERS", "letters"),
        ("987654321$", "letters"),
        ("+1 202 555 0123", "other_country"),
        ("0012025550123", "other_country"),
        ("12025550123", "other_country"),
        ("+34 612 345 678", "other_country"),
        ("593987654321", "other_country"),
        ("+5491122334455", "other_country"),
        ("+987654321", "other_country"),
        ("+999 987654321", "other_country"),
        ("tel:987654321;phone-context=+1", "other_country"),
        ("https://wa.me/12025550123", "other_country"),
        ("612345678", "not_peruvian"),
    ],
)
def test_text_that_cannot_be_a_peru_number_is_refused_with_its_problem(text: str, problem: str) -> None:
    assert problem_of(text) == problem


@pytest.mark.parametrize(
    "text", ["9.88E+08", "9,8765E+08", "5.19877E+10", "5.19877E+11", "9.876543217E+08", "9E+08"]
)
def test_a_number_that_a_spreadsheet_rounded_is_refused(text: str) -> None:
    with pytest.raises(InvalidNumber, match="rounded by a spreadsheet"):
        normalize(text)


def test_a_program_that_drops_trailing_zeros_of_a_float_has_lost_nothing() -> None:
    assert normalize("9.876543E8") == 987_654_300


DATES = ["12/11/2025", "1/1/1999", "31-12-2024", "12.11.2025", "2025-11-12", "2025/1/2", "11/12/2025 10:30",
         "2025-11-12T10:30:15.25Z", "12/11/2025, 10:30 a. m.", "2025-11-12 10:30:00-05:00"]  # fmt: skip


@pytest.mark.parametrize("date", DATES)
def test_a_date_is_not_a_phone_number(date: str) -> None:
    for text in (date, f"Actualizado: {date}", f"'{date}"):
        with pytest.raises(InvalidNumber, match="is a date, not a phone number"):
            normalize(text)
    for text in (
        f"987 654 321 {date}",
        f"987654321 ({date})",
        f"{date}: 987654321",
        f"Ana\n{date}\n987-654-321",
    ):
        assert numbers_in(text) == [987654321] == [normalize(text)]


@pytest.mark.parametrize("text", ["1-211-2025", "(01) 211-2025", "12 11 2025", "1211-2025", "01 211 2025"])
def test_a_landline_that_is_not_written_like_a_date_stays_one(text: str) -> None:
    assert normalize(text) == 12112025


@pytest.mark.parametrize("text", ["99364200777", "93012345678", "9821234567"])
def test_a_mobile_with_a_digit_or_two_too_many_is_a_typo_and_not_from_abroad(text: str) -> None:
    with pytest.raises(InvalidNumber, match="is too long"):
        normalize(text)


@pytest.mark.parametrize(
    "text",
    [
        "987654321 / 912345678",
        "987654321/912345678",
        "987654321-912345678",
        "987654321 912345678",
        "987654321; 912345678",
        "987654321 y 912345678",
        "987654321\n912345678",
        "987654321912345678",
        "+51987654321 / +51 912 345 678",
        "987654321, 01 4567890",
        "Cel: 987654321 / Casa: 014567890",
        "987654321 912345678 965432187",
    ],
)
def test_two_numbers_in_one_cell_are_refused_and_named_as_such(text: str) -> None:
    with pytest.raises(InvalidNumber, match="more than one number"):
        normalize(text)


def test_a_country_is_named_so_that_a_person_can_find_the_mistake() -> None:
    with pytest.raises(InvalidNumber, match=r"another country \(\+593, EC\)"):
        normalize("+593 98 765 4321")


def test_the_message_shows_the_cell_shortened_and_printable() -> None:
    with pytest.raises(InvalidNumber) as refused:
        normalize("\x1b[31mhola\u202e" + "\n" + "x" * 100_000)
    assert str(refused.value).startswith("“�[31mhola� xxx")
    assert "…” " in str(refused.value)
    assert len(str(refused.value)) < 100
    assert str(refused.value).isprintable()


def test_mobile_only_refuses_fixed_lines_and_nothing_else() -> None:
    assert problem_of("01 4567890", mobile_only=True) == "not_mobile"
    assert normalize("+51 987654321", mobile_only=True) == 987_654_321
    assert normalize("987654321", mobile_only=True) == 987_654_321


@pytest.mark.parametrize(
    "cell", [987654321, 987654321.0, 51987654321, "987654321", type("Text", (str,), {})("987654321")]
)
def test_numbers_of_a_data_frame_are_read_like_their_text(cell: str | float) -> None:
    assert normalize(cell) == 987_654_321


@pytest.mark.parametrize("cell", [None, float("nan")])
def test_a_missing_value_is_an_empty_cell(cell: float | None) -> None:
    assert problem_of(cell) == "empty"


@pytest.mark.parametrize("cell", [float("inf"), -1.5, True, 0, b"987654321"])
def test_values_that_are_not_numbers_are_refused(cell: object) -> None:
    assert problem_of(cell)


@every_time_the_same
@given(
    st.text()
    | st.text("0123456789+-()/.,;:exEntl \u200b٣９")
    | st.from_regex(r"(tel:)?[+0-9][0-9 ./;-]{4,40}")
)
def test_any_text_gives_a_possible_number_or_a_reason(text: str) -> None:
    try:
        national = normalize(text)
    except InvalidNumber as refused:
        reason = refused.reason
    else:
        reason = "None."
        assert 900_000_000 <= national <= 999_999_999 or 10_000_000 <= national <= 89_999_999
    assert reason.endswith(".")
    assert reason.isprintable()


@every_time_the_same
@given(st.text("0123456789+ -", min_size=6, max_size=20))
def test_a_normalized_number_normalizes_to_itself(text: str) -> None:
    try:
        national = normalize(text)
    except InvalidNumber:
        return
    assert normalize(str(national)) == national
    assert normalize(national) == national
    assert normalize(e164(national)) == national


WRITTEN = [
    "{0}",
    "0{0}",
    "51{0}",
    "+51{0}",
    "0051{0}",
    "051{0}",
    "tel:+51{0}",
    "{0} ",
    "'{0}",
    "+51 (0) {0}",
    "\u200b{0}\ufeff",
    "cel {0}",
    "{0} anexo 7",
]


@every_time_the_same
@given(mobiles | lima_lines, st.sampled_from(WRITTEN), st.sampled_from(["", " ", "-", "\u2009"]))
def test_every_way_to_write_a_number_reads_back_as_that_number(
    national: int, written: str, separator: str
) -> None:
    digits = str(national)
    grouped = separator.join([digits[:3], digits[3:6], digits[6:]])
    assert normalize(written.format(grouped)) == national


@every_time_the_same
@given(mobiles)
def test_full_width_digits_and_floats_read_back(national: int) -> None:
    wide = str(national).translate({ord("0") + n: ord("０") + n for n in range(10)})
    assert normalize(wide) == national
    assert normalize(float(national)) == national
    assert normalize(f"{national:.8E}") == national


@every_time_the_same
@given(
    st.integers(900_000_000, 999_999_999), st.integers(900_000_000, 999_999_999), st.sampled_from(" /;,-|\n")
)
def test_no_two_numbers_are_ever_merged_into_one(first: int, second: int, between: str) -> None:
    assume(first != second)
    assert problem_of(f"{first}{between}{second}") == "several"
    assert numbers_in(f"{first}{between}{second}") == [first, second]


def test_e164_has_the_country_code() -> None:
    assert e164(987_654_321) == "+51987654321"
    assert e164(14_567_890) == "+5114567890"


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("987654321", "9876•••21"),
        (987_654_321, "9876•••21"),
        ("+51 987 654 321", "9876•••21"),
        ("0051987654321", "9876•••21"),
        (14_567_890, "14•••90"),
        ("12345", "•••"),
        ("Juan Pérez", "•••"),
        ("", "•••"),
    ],
)
def test_a_masked_number_keeps_its_ends_and_hides_its_middle(number: str | int, masked: str) -> None:
    assert mask(number) == masked


@every_time_the_same
@given(st.text("0123456789") | st.text())
def test_a_mask_hides_at_least_three_digits_and_shows_no_letter(text: str) -> None:
    shown = mask(text).replace("•", "")
    digits = [character for character in text if character.isdecimal()]
    assert not shown or (shown.isdecimal() and len(digits) - len(shown) >= 3)
