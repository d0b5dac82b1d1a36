"""CSV: rows come back unchanged to the byte, and no list is too odd to read."""

from __future__ import annotations

import codecs
import csv
import io
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck.files import RESULT_COLUMNS, FileError, FileSink, ResultColumns, StreamSink, open_source

AT = datetime(2026, 11, 26, 8, 47, 23, 500_000, UTC)
ANSWER = ResultColumns(
    True, date(2023, 12, 12), False, True, "Hello world", "OK", "", "TID591c", "+51987654321", AT
)
OURS = "yes,2023-12-12,no,yes,Hello world,OK,,TID591c,+51987654321,2026-11-26T08:47:23Z"
HEADER = ",".join(RESULT_COLUMNS)


def no_sync(descriptor: int) -> None:
    """Skip fsync: these tests write many files, and none needs to survive a power cut."""


def written(
    path: Path, *, result: ResultColumns = ANSWER, suffix: str = ".csv", **options: str | int
) -> bytes:
    """Return the output for the list at ``path``, every row with the same result."""
    output = path.with_name(f"output{suffix}")
    with open_source(path, **options) as source, FileSink(output, source, fsync=no_sync) as sink:  # type: ignore[arg-type]
        for row in source.rows():
            sink.write(row, result)
    return output.read_bytes()


def numbers(path: Path, **options: str | int) -> list[str]:
    with open_source(path, **options) as source:  # type: ignore[arg-type]
        return list(source.numbers())


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    return tmp_path / "leads.csv"


def test_own_columns_come_back_in_place_followed_by_ours(leads: Path) -> None:
    leads.write_text("name,phone,city\nAna,987654321,Lima\nLuis, +51 912 345 678 ,Cusco\n")
    assert written(leads).decode() == (
        f"name,phone,city,{HEADER}\nAna,987654321,Lima,{OURS}\nLuis, +51 912 345 678 ,Cusco,{OURS}\n"
    )


def test_quotes_that_were_not_needed_stay(leads: Path) -> None:
    leads.write_text('"name",phone\n"Ana",987654321\n"Pérez, ""Lucho""","912345678"\n')
    assert written(leads).decode() == (
        f'"name",phone,{HEADER}\n"Ana",987654321,{OURS}\n"Pérez, ""Lucho""","912345678",{OURS}\n'
    )
    assert numbers(leads) == ["987654321", "912345678"]


def test_a_cell_may_hold_line_breaks(leads: Path) -> None:
    leads.write_bytes(b'phone,note\r\n987654321,"one\r\ntwo, three\n"\r\n912345678,x\r\n')
    assert numbers(leads) == ["987654321", "912345678"]
    assert f'\r\n987654321,"one\r\ntwo, three\n",{OURS}\r\n'.encode() in written(leads)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_detected_and_kept(leads: Path, delimiter: str) -> None:
    leads.write_text(f"name{delimiter}phone\nPérez{delimiter}987654321\n")
    assert written(leads).decode().splitlines()[1] == f"Pérez{delimiter}987654321{delimiter}" + OURS.replace(
        ",", delimiter
    )


def test_a_letter_or_a_digit_is_never_the_delimiter(leads: Path) -> None:
    leads.write_text("987654321\n987654322\n987654323\n")
    assert numbers(leads) == ["987654321", "987654322", "987654323"]


def test_the_delimiter_that_excel_declares_is_kept(leads: Path) -> None:
    leads.write_text("sep=|\nname|phone\na,b|987654321\n")
    assert numbers(leads) == ["987654321"]
    assert written(leads).decode().startswith("sep=|\nname|phone|whatsapp|")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_are_kept(leads: Path, line_end: str) -> None:
    leads.write_bytes(line_end.join(["phone,name", "987654321,Ana", "912345678,Luis"]).encode())
    output = written(leads).decode()
    assert output.split(line_end)[1:] == [f"987654321,Ana,{OURS}", f"912345678,Luis,{OURS}", ""]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", b""),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
def test_the_encoding_and_its_mark_are_detected_and_kept(leads: Path, encoding: str, mark: bytes) -> None:
    leads.write_bytes(mark + "Teléfono;Año\n987654321;José «Ñandú»\n".encode(encoding))
    with open_source(leads) as source:
        assert source.number_column.name == "Teléfono"
    output = written(leads)
    assert output.startswith(mark)
    text = output[len(mark) :].decode(encoding)
    assert text.splitlines()[1] == "987654321;José «Ñandú»;" + OURS.replace(",", ";")


def test_windows_1252_is_detected_even_if_its_first_letter_comes_late(leads: Path) -> None:
    leads.write_bytes(b"phone,name\n" + b"987654321,Ana\n" * 80_000 + "912345678,José\n".encode("cp1252"))
    assert written(leads).endswith(f"912345678,José,{OURS}\n".encode())


def test_an_explicit_encoding_is_used(leads: Path) -> None:
    leads.write_bytes("phone,name\n987654321,Łukasz\n".encode("cp1250"))
    assert f"987654321,Łukasz,{OURS}\n".encode() in written(leads, encoding="cp1250")


@pytest.mark.parametrize(
    "encoding", ["klingon", "hex", "base64", "rot13", "idna", "punycode", "undefined", "unicode_escape"]
)
def test_an_unknown_encoding_is_a_clear_error(leads: Path, encoding: str) -> None:
    leads.write_text("phone\n987654321\n")
    with pytest.raises(FileError, match=f"'{encoding}' is not a known text encoding"):
        open_source(leads, encoding=encoding)


def test_lines_longer_than_the_sniffed_part_are_read_completely(leads: Path) -> None:
    names = [f"column_name_{place}" for place in range(6000)]
    leads.write_text(",".join([*names, "dato"]) + "\n" + ",".join(["x"] * 6000 + ["987654321"]) + "\n")
    assert numbers(leads) == ["987654321"]
    assert written(leads).decode().splitlines()[0] == ",".join([*names, "dato", HEADER])


def test_a_list_without_a_header_may_begin_with_a_long_cell(leads: Path) -> None:
    leads.write_text("x" * 100_000 + ",987654321\ny,912345678\n")
    assert numbers(leads) == ["987654321", "912345678"]


def test_a_file_with_one_endless_line_is_sniffed_in_part(leads: Path) -> None:
    leads.write_text("9" * 40_000_000)
    with open_source(leads) as source:
        assert len(source.origin.head) <= 16 << 20


def test_bytes_that_do_not_decode_come_back_as_they_were(leads: Path) -> None:
    leads.write_bytes(b"phone,name\n987654321,Jos\xe9\n")
    assert b"987654321,Jos\xe9,yes" in written(leads, encoding="utf-8")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp850"])
def test_an_encoding_that_cannot_hold_an_emoji_becomes_utf_8_and_it_says_so(
    leads: Path, encoding: str
) -> None:
    leads.write_bytes("phone;name\n987654321;José\n".encode(encoding))
    result = ANSWER._replace(signature="año 😀")
    output = written(leads, result=result, encoding=encoding)
    assert output.startswith(codecs.BOM_UTF8)
    assert "987654321;José;yes;2023-12-12;no;yes;año 😀;OK;".encode() in output
    with open_source(leads, encoding=encoding) as source, FileSink(leads.with_name("o.csv"), source) as sink:
        name = source.encoding.name  # type: ignore[attr-defined]
        assert sink.notes == [
            f"the output is UTF-8 with a byte order mark: {name} cannot represent every signature"
        ]
        stream = io.BytesIO()
        with StreamSink(stream, source, file_format="csv") as pipe:
            pipe.write(next(source.rows()), result)
        assert stream.getvalue().startswith(b"phone;name;"), "a pipe is not opened in Excel"


def test_bytes_that_a_legacy_encoding_lacks_are_in_the_output(leads: Path) -> None:
    leads.write_bytes(b"phone,name\n987654321,A\xf1o\x81\n")
    assert "987654321,Año\x81,yes".encode() in written(leads)


def test_a_signature_cannot_reverse_the_text(leads: Path) -> None:
    leads.write_text("phone\n987654321\n")
    signature = "a\u202eb\u2066c\u200fd\u061ce\x1b[31mf\x9bg\u2029h 👨\u200d👩"
    for suffix in (".csv", ".tsv", ".jsonl"):
        assert "abcde[31mfg h 👨\u200d👩".encode() in written(
            leads, suffix=suffix, result=ANSWER._replace(signature=signature)
        )


def test_a_short_row_is_padded_so_that_our_columns_stay_under_their_names(leads: Path) -> None:
    leads.write_text("phone,name,city\n987654321\n912345678,Ana,Lima\n")
    assert written(leads).decode().splitlines()[1] == f"987654321,,,{OURS}"


def test_a_long_row_moves_our_columns_for_all_rows(leads: Path) -> None:
    leads.write_text("phone,name\n987654321,Ana\n912345678,Pérez, Luis, Lima\n")
    rows = list(csv.DictReader(io.StringIO(written(leads).decode())))
    assert [(row["phone"], row["name"], row["whatsapp"]) for row in rows] == [
        ("987654321", "Ana", "yes"),
        ("912345678", "Pérez", "yes"),
    ]
    assert "912345678,Pérez, Luis, Lima,yes" in written(leads).decode()


def test_a_row_too_short_for_the_number_column_has_no_number(leads: Path) -> None:
    leads.write_text("name,phone\nAna,987654321\nLuis\nEva,912345678\n")
    assert numbers(leads) == ["987654321", "", "912345678"]


@pytest.mark.parametrize(
    "text",
    [
        "\n\nname,phone\nAna,987654321\n\n\nLuis,912345678\n\n\n",
        "name,phone\r\r\nAna,987654321\r\r\nLuis,912345678\r\r\n",
        "name,phone\nAna,987654321\n,\nLuis,912345678\n,\n,\n",
        "name,phone\nAna,987654321\n  , \t\nLuis,912345678\n,,,,\n",
        'name,phone\nAna,987654321\n"",""\nLuis,912345678\n',
        "name,phone\nAna,987654321\n\ufeff,\xa0\nLuis,912345678\n",
    ],
)
def test_empty_rows_are_not_leads(leads: Path, text: str) -> None:
    leads.write_text(text, encoding="utf-8", newline="")
    assert numbers(leads) == ["987654321", "912345678"]
    assert written(leads).decode().split() == [
        f"name,phone,{HEADER}",
        *_with_ours("Ana,987654321", "Luis,912345678"),
    ]


def _with_ours(*rows: str) -> list[str]:
    return [piece for row in rows for piece in f"{row},{OURS}".split()]


def test_a_row_with_something_but_a_number_is_a_row(leads: Path) -> None:
    leads.write_text('name,phone\nAna,\n,987654321\n"""",\n')
    assert numbers(leads) == ["", "987654321", ""]


def test_a_cell_that_is_a_quote_is_a_cell(leads: Path) -> None:
    leads.write_text('phone\n987654321\n"""",""""\n')
    with open_source(leads) as source:
        assert [len(source.values(row)) for row in source.rows()] == [1, 2]
        assert source.all_columns() == ["phone", ""]


def test_a_quote_that_is_never_closed_costs_no_row(leads: Path) -> None:
    leads.write_text('name,phone\n"Ana,987654321\n' + "Luis,912345678\n" * 500)
    assert len(numbers(leads)) == 501
    assert numbers(leads)[:2] == ["987654321", "912345678"]
    rows = list(csv.DictReader(io.StringIO(written(leads).decode())))
    assert [row["whatsapp"] for row in rows] == ["yes"] * 501
    assert rows[0]["name"] == '"Ana'


def test_two_stray_quotes_some_rows_apart_do_not_swallow_the_rows_between(leads: Path) -> None:
    leads.write_text('name,phone\n"Ana,987654321\nLuis,912345678\n"Eva,965432187\nPía,934567890\n')
    assert numbers(leads) == ["987654321", "912345678", "965432187", "934567890"]


def test_a_quote_inside_a_cell_is_a_character(leads: Path) -> None:
    leads.write_text('name,phone\nAna 5" tubo,987654321\nLuis,912345678\n')
    assert numbers(leads) == ["987654321", "912345678"]
    assert f'Ana 5" tubo,987654321,{OURS}' in written(leads).decode()


def test_a_file_that_ends_in_an_open_quote_keeps_its_last_rows(leads: Path) -> None:
    leads.write_text('phone,name\n987654321,Ana\n912345678,"Luis\n965432187,Eva')
    assert numbers(leads) == ["987654321", "912345678", "965432187"]


def test_a_list_without_a_header_gets_one_in_the_output(leads: Path) -> None:
    leads.write_text("Ana,987654321\nLuis,912345678\n")
    with open_source(leads) as source:
        assert (source.columns, source.number_column.found_by) == (["column_1", "phone"], "content")
    assert written(leads).decode().splitlines() == [
        f"column_1,phone,{HEADER}",
        f"Ana,987654321,{OURS}",
        f"Luis,912345678,{OURS}",
    ]


@pytest.mark.parametrize("first", ["Teléfono", "phone number", "CELULAR 1", "nombre"])
def test_a_header_of_one_column_is_distinguished_from_a_number(leads: Path, first: str) -> None:
    leads.write_text(f"{first}\n987654321\n912345678\n")
    assert numbers(leads) == ["987654321", "912345678"]


@pytest.mark.parametrize("first", ["98765", "(01) 456-7890", "987654321 / 912345678"])
def test_a_bad_first_number_is_not_a_header(leads: Path, first: str) -> None:
    leads.write_text(f"{first}\n987654321\n912345678\n")
    assert len(numbers(leads)) == 3


def test_column_names_that_the_list_already_has_get_a_prefix(leads: Path) -> None:
    leads.write_text("phone,Status,whatsapp,accucheck_whatsapp\n987654321,new,yes,no\n")
    header = written(leads).decode().splitlines()[0].split(",")
    assert header[4:] == [
        "accucheck_whatsapp_2",
        "status_update",
        "business_user",
        "avatar",
        "signature",
        "accucheck_status",
        "reason",
        "request_id",
        "number",
        "checked_at",
    ]


@pytest.mark.parametrize(
    "signature",
    [
        "=1+1",
        "+51 987",
        "-2",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "\x1b=1",
        "＝1",
        '=HYPERLINK("http://x","y")',
        "=cmd|' /C calc'!A0",
    ],
)
def test_a_signature_never_becomes_a_formula(leads: Path, signature: str) -> None:
    leads.write_text("phone,formula\n987654321,=1+1\n")
    output = written(leads, result=ANSWER._replace(signature=signature, reason=signature)).decode()
    row = next(csv.DictReader(io.StringIO(output)))
    assert row["signature"].startswith("'")
    assert row["reason"].startswith("'")
    assert row["formula"] == "=1+1", "the row's own columns are not ours to change"


def test_control_characters_in_signatures_are_removed(leads: Path) -> None:
    leads.write_text("phone,x\n987654321,1\n")
    output = written(leads, result=ANSWER._replace(signature="a\x1b[31mb\x07\x9b2Jc\nd\te\u2028f"))
    assert next(csv.DictReader(io.StringIO(output.decode())))["signature"] == "a[31mb2Jc d e f"


def test_a_row_without_an_answer_has_empty_cells(leads: Path) -> None:
    leads.write_text("phone,x\n987654321,1\n")
    assert written(leads, result=ResultColumns()).decode().splitlines()[1] == "987654321,1,,,,,,UNCHECKED,,,,"


def test_tabs_become_commas_only_if_the_names_say_so(tmp_path: Path) -> None:
    tabs = tmp_path / "leads.tsv"
    tabs.write_text("name\tphone\na,b\t987654321\n")
    assert written(tabs).decode().splitlines()[1] == f'"a,b",987654321,{OURS}'
    assert written(tabs, suffix=".tsv").decode().splitlines()[1] == "a,b\t987654321\t" + OURS.replace(
        ",", "\t"
    )
    named_csv = tmp_path / "leads.csv"
    named_csv.write_text("name\tphone\na,b\t987654321\n")
    assert written(named_csv).decode().splitlines()[1].startswith("a,b\t987654321\t")
    assert written(named_csv, suffix=".tsv").decode().splitlines()[1].startswith("a,b\t987654321\t")


def test_a_file_that_is_not_text_is_a_clear_error(leads: Path) -> None:
    leads.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 50)
    with pytest.raises(FileError, match=r"leads\.csv: this is a picture, not a list"):
        open_source(leads)


@pytest.mark.parametrize("content", [b"", b"\n\n\r\n", codecs.BOM_UTF8])
def test_an_empty_file_is_a_clear_error(leads: Path, content: bytes) -> None:
    leads.write_bytes(content)
    with pytest.raises(FileError, match=r"leads\.csv: the file (is empty|contains no rows)"):
        open_source(leads)


def test_a_header_alone_is_a_list_of_no_rows(leads: Path) -> None:
    leads.write_text("name,phone\n")
    assert numbers(leads) == []
    assert written(leads).decode() == f"name,phone,{HEADER}\n"


def test_the_rows_are_counted_and_the_progress_is_known(leads: Path) -> None:
    leads.write_text("phone,name\n" + "987654321,Ana\n" * 100_000)
    with open_source(leads) as source:
        assert (source.rows_total, source.fraction) == (None, 0.0)
        rows = source.rows()
        for _ in range(50_000):
            next(rows)
        assert 0.3 < source.fraction < 0.9
        assert sum(1 for _ in rows) == 50_000
        assert (source.rows_total, source.fraction) == (100_000, 1.0)


def test_a_long_row_in_a_live_stream_keeps_our_columns_in_place() -> None:
    live = io.BytesIO(b'phone,name\n987654321,Ana\n912345678,a,"b,c",d\n')
    source, stream = open_source("-", live=True, stdin=live), io.BytesIO()
    with StreamSink(stream, source, file_format="csv") as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue().decode())))
    assert [(row["name"], row["whatsapp"]) for row in rows] == [("Ana", "yes"), ("a,b,c,d", "yes")]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(cells, st.integers(900_000_000, 999_999_999), cells), min_size=1, max_size=30),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_list_that_the_standard_library_writes_comes_back_untouched(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, int, str]],
    delimiter: str,
    quoting: int,
    line_end: str,
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    writer.writerow(["before", "phone", "after"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("any") / "leads.csv"
    path.write_bytes(text.getvalue().encode())
    output = written(path, encoding="utf-8").decode()
    ours = OURS.replace(",", delimiter)
    assert (
        output.replace(delimiter + ours + line_end, line_end).split(line_end, 1)[1]
        == text.getvalue().split(line_end, 1)[1]
    )
    back = list(csv.reader(io.StringIO(output, newline=""), delimiter=delimiter))
    assert [row[:3] for row in back[1:]] == [[before, str(number), after] for before, number, after in rows]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.binary(max_size=400) | st.text('"\n\r,;0987a\ufeff\0', max_size=60).map(str.encode))
def test_no_file_crashes_the_reading_and_both_passes_agree(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "leads.csv"
    path.write_bytes(b"phone,name\n987654321,Ana\n" + content)
    output = path.with_name("checked.csv")
    try:
        source = open_source(path, column=1)
    except FileError:
        return
    with source, FileSink(output, source, fsync=no_sync) as sink:
        first = list(source.numbers())
        for row in source.rows():
            sink.write(row, ResultColumns())
        assert list(source.numbers()) == first
        assert first[0] == "987654321"
