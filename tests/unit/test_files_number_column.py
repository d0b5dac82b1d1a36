"""The number column: as asked for, by name, or by content; where two would do, neither is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from accucheck.files import FileError, NumberColumn, open_source

MOBILES = ["987654321", "+51 912 345 678", "965432187", "051934567890", "bad"]
DNIS = ["12345678", "45678912", "41234567", "07654321", "70123456"]
RUCS = ["10123456789", "20512345678", "20612345678", "10456789123", "20100047218"]
WORDS = ["Ana", "Luis", "Eva", "Pía", "José"]
LANDLINES = ["014567890", "(01) 4567891", "044212345", "", "bad"]


def column_of(tmp_path: Path, columns: dict[str, list[str]], wanted: str | int | None = None) -> NumberColumn:
    leads = tmp_path / "leads.csv"
    rows = [";".join(columns), *map(";".join, zip(*columns.values(), strict=True))]
    leads.write_text("\n".join(rows) + "\n")
    with open_source(leads, column=wanted) as source:
        return source.number_column


@pytest.mark.parametrize(
    "name",
    [
        "phone",
        "Phone Number",
        "phone_number",
        "phoneNumber",
        "TELEFONO",
        "Teléfono",
        "Tele\u0301fono",
        "Teléfono 1",
        "telefono1",
        "Celular del cliente",
        "Nro. Celular",
        "móvil",
        "mobile",
        "Tel.",
        "Telf",
        "fono",
        "MSISDN",
        "whatsapp",
        "WhatsApp Number",
        "número",
        "numero",
        "Contacto",
    ],
)
def test_a_column_is_found_by_its_name_whatever_its_case_and_accents(tmp_path: Path, name: str) -> None:
    found = column_of(tmp_path, {"dni": DNIS, name: MOBILES, "nombre": WORDS})
    assert (found.name, found.index, found.found_by) == (name, 1, "name")


def test_a_name_that_means_phone_wins_over_other_cells_that_could_be_phones(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"ref": MOBILES, "celular": MOBILES}).name == "celular"


def test_a_name_that_may_mean_other_things_must_have_phones_in_it(tmp_path: Path) -> None:
    found = column_of(tmp_path, {"numero": DNIS, "dato": MOBILES})
    assert (found.name, found.found_by) == ("dato", "content")


def test_a_column_named_phone_that_holds_none_loses_to_one_that_does(tmp_path: Path) -> None:
    found = column_of(tmp_path, {"phone type": WORDS, "dato": MOBILES})
    assert (found.name, found.found_by) == ("dato", "content")


def test_a_column_named_phone_is_taken_though_its_cells_are_bad_if_there_is_no_other(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"phone": WORDS, "nombre": WORDS}).found_by == "name"


def test_the_fuller_of_two_phone_columns_is_taken_if_the_other_is_nearly_empty(tmp_path: Path) -> None:
    found = column_of(tmp_path, {"telefono": ["x", "", "", "", "y"], "celular": MOBILES})
    assert (found.name, found.found_by) == ("celular", "name")


def test_a_column_without_a_telling_name_is_found_by_its_content(tmp_path: Path) -> None:
    found = column_of(tmp_path, {"a": WORDS, "b": RUCS, "c": MOBILES, "d": DNIS})
    assert (found.name, found.found_by) == ("c", "content")


def test_identity_cards_are_not_taken_for_phones(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no column holds phone numbers"):
        column_of(tmp_path, {"a": WORDS, "b": RUCS, "c": DNIS})


def test_two_columns_of_phones_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"columns 'tel' and 'celular' could all hold .* --column"):
        column_of(tmp_path, {"tel": MOBILES, "celular": MOBILES, "x": WORDS})


def test_of_fixed_lines_and_mobiles_the_mobiles_are_taken(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"tel fijo": LANDLINES, "celular": MOBILES, "x": WORDS}).name == "celular"


def test_no_column_of_phones_is_one_clear_line_that_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"leads\.csv: no column .* out of 1 'a', 2 'b'$"):
        column_of(tmp_path, {"a": WORDS, "b": WORDS})


def test_a_long_list_of_columns_is_shortened(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"20 'c20' and 5 more$"):
        column_of(tmp_path, {f"c{place}": WORDS for place in range(1, 26)})


@pytest.mark.parametrize("wanted", ["Año/Teléfono", "ano telefono", "2", 2])
def test_the_column_that_is_asked_for_is_taken(tmp_path: Path, wanted: str | int) -> None:
    found = column_of(tmp_path, {"phone": MOBILES, "Año/Teléfono": WORDS}, wanted)
    assert (found.index, found.found_by) == (1, "option")


def test_a_column_that_is_named_by_a_digit_comes_before_the_place(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"2": MOBILES, "phone": WORDS}, 2).index == 0


@pytest.mark.parametrize("wanted", ["mobil", "0", "3", -1, ""])
def test_a_column_that_is_not_there_is_one_clear_line(tmp_path: Path, wanted: str | int) -> None:
    with pytest.raises(FileError, match=r"there is no column '.*'; there are 1 'phone', 2 'name'"):
        column_of(tmp_path, {"phone": MOBILES, "name": WORDS}, wanted)


def test_two_columns_of_the_name_that_is_asked_for_are_told_apart_by_place(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("tel,Tel,tel\n987654321,987654322,987654323\n")
    with pytest.raises(FileError, match="2 columns are named 'tel'; choose one by its place: 1 and 3"):
        open_source(leads, column="tel")
    with open_source(leads, column=3) as source:
        assert list(source.numbers()) == ["987654323"]


def test_the_only_column_needs_no_name(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"dato": LANDLINES}).found_by == "only column"


def test_a_person_is_told_which_column_was_taken_and_why(tmp_path: Path) -> None:
    assert str(column_of(tmp_path, {"n": WORDS, "Celular": MOBILES})) == "'Celular' (column 2, found by name)"
    assert str(column_of(tmp_path, {"n": WORDS, "x": MOBILES}, "x")) == "'x' (column 2, as given)"
    assert str(column_of(tmp_path, {"x": MOBILES})) == "'x' (column 1, the only one)"
