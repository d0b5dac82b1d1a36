"""The number column: as requested, by name, or by content; if two are equally good, neither is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from accucheck.files import FileError, FileSink, NumberColumn, ResultColumns, open_source

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
    with pytest.raises(FileError, match="no column contains phone numbers"):
        column_of(tmp_path, {"a": WORDS, "b": RUCS, "c": DNIS})


def test_two_columns_of_phones_without_a_telling_name_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"could be in any of these columns: 1 'a', 3 'c'; .* --column"):
        column_of(tmp_path, {"a": MOBILES, "b": DNIS, "c": MOBILES, "x": WORDS})


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["tel", "celular"], "celular"),
        (["Teléfono fijo", "Celular"], "Celular"),
        (["Teléfono fijo", "Teléfono"], "Teléfono"),
        (["Celular", "Móvil"], "Celular"),
        (["Celular", "WhatsApp"], "WhatsApp"),
        (["Home Phone", "Mobile Phone"], "Mobile Phone"),
        (["Home Fax", "Primary Phone"], "Primary Phone"),
        (["Phone 1 - Value", "Phone 2 - Value"], "Phone 1 - Value"),
        (["Celular 2", "Celular 1"], "Celular 2"),
        (["Tipo de teléfono", "Teléfono"], "Teléfono"),
    ],
)
def test_headers_come_before_the_data(tmp_path: Path, names: list[str], taken: str) -> None:
    for first, second in ((MOBILES, MOBILES[::-1]), (LANDLINES, MOBILES), (MOBILES, LANDLINES)):
        found = column_of(tmp_path, {"x": WORDS, names[0]: first, names[1]: second})
        assert (found.name, found.found_by) == (taken, "name")


def test_columns_that_hold_numbers_and_are_not_read_are_named(tmp_path: Path) -> None:
    leads = tmp_path / "google.csv"
    leads.write_text(
        "First Name,Labels,Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,Phone 2 - Value,Phone 3 - Value\n"
        "Ana,* myContacts,Mobile,+51 987 650 001,Mobile,987650011,\n"
        "Eva,* myContacts,Mobile,987650003,,,\n"
    )
    with open_source(leads) as source:
        assert source.number_column.name == "Phone 1 - Value"
        assert source.notes == [
            "these columns also contain numbers and are skipped: 'Phone 2 - Value'; read them with --column all"
        ]
        assert list(source.numbers()) == ["+51 987 650 001", "987650003"]


@pytest.mark.parametrize("wanted", ["all", ["Phone 1 - Value", "Phone 2 - Value"], [3, 4], ["ALL"]])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_several_columns_are_read_as_one_number_a_line(
    tmp_path: Path, wanted: str | list[str | int], suffix: str
) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text(
        "Name,Phone 1 - Label,Phone 1 - Value,Phone 2 - Value\n"
        'Ana,Mobile,987650001,987650002\nEva,"a, b",987650003,\nLuis\n'
    )
    if suffix != ".csv":
        converted = tmp_path / f"other{suffix}"
        with open_source(leads) as source, FileSink(converted, source) as sink:
            for row in source.rows():
                sink.write(row, ResultColumns())
        leads = converted
    with open_source(leads, column=wanted) as source:
        assert [column.name for column in source.number_columns] == ["Phone 1 - Value", "Phone 2 - Value"]
        assert [number.split() for number in source.numbers()] == [
            ["987650001", "987650002"],
            ["987650003"],
            [],
        ]
        assert len([source.values(row) for row in source.rows()]) == 3


def test_cells_that_hold_several_numbers_are_reported_at_the_start(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("phone,name\n987654321 / 912345678,Ana\n987654321,Luis\n912345678,Eva\n")
    with open_source(leads) as source:
        assert source.notes == []
        assert source.several == (
            "1 of the first 3 cells have several numbers; --several first, each or best reads them"
        )


def test_a_column_of_mobiles_is_preferred_to_one_of_landlines(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"tel fijo": LANDLINES, "celular": MOBILES, "x": WORDS}).name == "celular"


def test_no_column_of_phones_is_a_clear_error_that_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"leads\.csv: no column .*--column: 1 'a', 2 'b'$"):
        column_of(tmp_path, {"a": WORDS, "b": WORDS})


def test_a_long_list_of_columns_is_shortened(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"20 'c20' and 5 more$"):
        column_of(tmp_path, {f"c{place}": WORDS for place in range(1, 26)})


@pytest.mark.parametrize("wanted", ["Año/Teléfono", "ano telefono", "2", 2])
def test_the_requested_column_is_used(tmp_path: Path, wanted: str | int) -> None:
    found = column_of(tmp_path, {"phone": MOBILES, "Año/Teléfono": WORDS}, wanted)
    assert (found.index, found.found_by) == (1, "option")


def test_a_column_that_is_named_by_a_digit_comes_before_the_place(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"2": MOBILES, "phone": WORDS}, 2).index == 0


@pytest.mark.parametrize("wanted", ["mobil", "0", "3", -1, ""])
def test_a_column_that_is_not_there_is_a_clear_error(tmp_path: Path, wanted: str | int) -> None:
    with pytest.raises(FileError, match=r"there is no column '.*'; the columns are 1 'phone', 2 'name'"):
        column_of(tmp_path, {"phone": MOBILES, "name": WORDS}, wanted)


def test_two_columns_of_the_name_that_is_asked_for_are_distinguished_by_place(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("tel,Tel,tel\n987654321,987654322,987654323\n")
    with pytest.raises(FileError, match="2 columns are named 'tel'; choose one by its position: 1 and 3"):
        open_source(leads, column="tel")
    with open_source(leads, column=3) as source:
        assert list(source.numbers()) == ["987654323"]


def test_the_only_column_needs_no_name(tmp_path: Path) -> None:
    assert column_of(tmp_path, {"dato": LANDLINES}).found_by == "only column"


def test_a_person_sees_which_column_was_taken_and_why(tmp_path: Path) -> None:
    assert str(column_of(tmp_path, {"n": WORDS, "Celular": MOBILES})) == "'Celular' (column 2, found by name)"
    assert str(column_of(tmp_path, {"n": WORDS, "x": MOBILES}, "x")) == "'x' (column 2, as given)"
    assert str(column_of(tmp_path, {"x": MOBILES})) == "'x' (column 1, the only one)"
