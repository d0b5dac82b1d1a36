"""Inputs are recognized by content; unsupported ones are named, and no number is skipped silently."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import zipfile
import zlib
from pathlib import Path

import pytest

from accucheck.files import FileError, FileSink, ResultColumns, open_source

N1, N2, N3 = "987650001", "987650002", "987650003"


def numbers_of(path: Path, **options: str) -> list[str]:
    with open_source(path, **options) as source:  # type: ignore[arg-type]
        found = list(source.numbers())
        assert found == [row.number for row in source.rows()]
        return found


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(FileError) as refused:
        open_source(path)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", f'["{N1}", "{N2}"]'),
        ("a.json", f"[{N1}, {N2}]\n"),
        ("a.json", f"[\n  {N1},\n  {N2}\n]"),
        ("a.json", json.dumps([{"name": "Ana", "phone": N1}, {"name": "Luis", "phone": N2}], indent=2)),
        ("a.json", json.dumps([{"name": "Ana", "phone": N1}, {"name": "Luis", "phone": N2}])),
        ("a.json", json.dumps({"data": [{"phone": N1}, {"phone": N2}], "total": 2})),
        (
            "a.json",
            json.dumps(
                {"meta": {"page": 1}, "response": {"leads": [{"phone": N1}, {"phone": N2}]}}, indent=1
            ),
        ),
        ("a.json", json.dumps({"phones": [N1, N2], "source": "web"})),
        ("a.json", f'{{"phone": "{N1}"}}\n{{"phone": "{N2}"}}\n'),
        ("a.json", f'{{\n "phone": "{N1}"\n}}\n{{\n "phone": "{N2}"\n}}\n'),
        ("a.json", f'{{"phone": "{N1}"}}{{"phone": "{N2}"}}'),
        ("a.jsonl", json.dumps([{"phone": N1}, {"phone": N2}], indent=2)),
        ("a.txt", f"['{N1}', '{N2}']"),
        ("a.txt", f"('{N1}', '{N2}',)\n"),
        ("a.txt", f"numeros = ['{N1}', '{N2}']\n"),
        ("a.txt", f"const phones = ['{N1}', '{N2}'];\n"),
        ("a.js", f'export default [\n"{N1}",\n"{N2}"\n];\n'),
        ("a.txt", f"[{{'phone': '{N1}', 'vip': True}}, {{'phone': '{N2}', 'vip': None}}]"),
        ("a.txt", json.dumps([N1, N2])),
        ("a.json", json.dumps([["Nombre", "Celular"], ["Ana", N1], ["Luis", N2]])),
        ("a.json", "\ufeff" + json.dumps([N1, N2])),
    ],
)
def test_json_documents_are_read_completely(tmp_path: Path, name: str, text: str) -> None:
    leads = put(tmp_path / name, text)
    assert numbers_of(leads) == [N1, N2]
    output = tmp_path / "out.jsonl"
    with open_source(leads) as source, FileSink(output, source) as sink:
        for row in source.rows():
            sink.write(row, ResultColumns(status="OK"))
    assert [json.loads(line)["status"] for line in output.read_text().splitlines()] == ["OK", "OK"]


def test_a_big_json_array_is_read_in_pieces(tmp_path: Path) -> None:
    rows = [{"phone": f"9{place:08d}", "note": 'Año ["]} \\ 😀 ' * 9} for place in range(5000)]
    for indent in (None, 1):
        leads = put(tmp_path / "leads.json", json.dumps(rows, indent=indent))
        assert numbers_of(leads) == [row["phone"] for row in rows]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_json_in_other_encodings_is_read(tmp_path: Path, encoding: str) -> None:
    assert numbers_of(put(tmp_path / "a.json", json.dumps([N1, N2]).encode(encoding))) == [N1, N2]


def test_json_comes_through_standard_input() -> None:
    for live in (False, True):
        with open_source("-", live=live, stdin=io.BytesIO(f'[\n"{N1}",\n"{N2}"]'.encode())) as source:
            assert list(source.numbers()) == [N1, N2]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'["{N1}", "{N2}"', "the JSON is cut off|not valid JSON"),
        (json.dumps([{"phone": N1}] * 100)[:-40], "the JSON is cut off|not valid JSON"),
        (json.dumps({"a": [N1], "b": [N2, N3]}), r"several lists of numbers: \.a \(1\), \.b \(2\)"),
        ('{"total": 0, "data": []}', "contains no list of phone numbers"),
        ('{"name": Ana}', "not valid JSON"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_json_that_cannot_be_read_is_a_clear_error(tmp_path: Path, text: str, why: str) -> None:
    leads = put(tmp_path / "a.json", text)
    with pytest.raises(FileError, match=why):
        open_source(leads)


def test_a_csv_header_with_brackets_is_not_json(tmp_path: Path) -> None:
    assert numbers_of(put(tmp_path / "a.csv", f"[id],[phone]\n1,{N1}\n")) == [N1]


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        (f"{N1}, {N2}, {N3}\n", ","),
        (f"{N1},{N2},{N3}", ","),
        (f"{N1} {N2} {N3}\n", " "),
        (f"{N1};{N2};{N3}\n", ";"),
        (f"{N1}\t{N2}\t{N3}\n", "\t"),
        (f"{N1} | {N2} | {N3}\n", "|"),
        (f"{N1}, {N2},\n{N3}\n", ","),
        ("987 650 001, 987 650 002, 987 650 003\n", ","),
        ("+51 987650001,+51 987650002,+51 987650003,\n", ","),
    ],
)
def test_numbers_on_one_line_are_a_row_each(tmp_path: Path, text: str, separator: str) -> None:
    leads = put(tmp_path / "a.txt", text)
    assert [number.replace(" ", "")[-9:] for number in numbers_of(leads)] == [N1, N2, N3]
    with open_source(leads) as source:
        assert source.notes == ["the file is a plain list of numbers, not a table: each number becomes a row"]


@pytest.mark.parametrize(
    "text",
    [
        f"Ana,{N1}\n",
        f"{N1},Ana\n{N2},Luis\n",
        f"{N1}\n{N2}\n",
        f"phone,other\n{N1},{N2}\n",
        f"{N1};12345678\n{N2};1\n",
    ],
)
def test_a_table_is_not_a_list_of_numbers(tmp_path: Path, text: str) -> None:
    with open_source(put(tmp_path / "a.txt", text), column="1" if text[0] == "9" else None) as source:
        assert "plain list of numbers" not in " ".join(source.notes)
        assert len(list(source.rows())) <= text.count("\n")


VCARD = """BEGIN:VCARD
VERSION:3.0
FN:Ana Prueba
TEL;TYPE=CELL:+51 987 650 001
END:VCARD
BEGIN:VCARD
VERSION:2.1
N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:P=C3=A9rez;Luis=
 Jos=C3=A9;;;
TEL;CELL;PREF:987650002
item1.TEL;WORK;VOICE:01 444
 1234
EMAIL:luis@example.pe
END:VCARD
begin:vcard
VERSION:4.0
FN:Sin número
ORG:ACME;Ventas
end:vcard
BEGIN:VCARD
FN:Eva\\, S.A.
TEL;VALUE=uri;TYPE="voice,home":tel:+51-987-650-003
END:VCARD
"""


@pytest.mark.parametrize("name", ["contactos.vcf", "contactos.txt", "contactos"])
def test_contacts_are_a_row_for_each_number(tmp_path: Path, name: str) -> None:
    leads = put(tmp_path / name, VCARD.replace("\n", "\r\n"))
    with open_source(leads) as source:
        rows = [list(source.values(row)) for row in source.rows()]
    assert [row[1:3] for row in rows] == [
        ["+51 987 650 001", "CELL"],
        ["987650002", "CELL"],
        ["01 4441234", "WORK"],
        ["", ""],
        ["tel:+51-987-650-003", "HOME"],
    ]
    assert rows[0][0] == "Ana Prueba"
    assert rows[2][3] == "luis@example.pe"
    assert rows[3][4] == "ACME;Ventas"
    assert rows[4][0] == "Eva, S.A."


HTML = (
    '<html lang="es"><head><meta charset="utf-8"><style>td{color:red}</style></head><body><h1>Reporte</h1>'
    "<table><tr><th>Nombre</th><th>Celular</th></tr><tr><td>Ana<br>María</td><td>987650001</td></tr>"
    "<tr><td colspan=2></td></tr><tr><td>Mu&ntilde;oz</td><td> 987&nbsp;650&nbsp;002 </td></tr></table></body></html>"
)


@pytest.mark.parametrize(
    "text",
    [
        HTML,
        HTML.replace("<html", "<!DOCTYPE html>\n<HTML"),
        HTML[HTML.index("<table") :],
        HTML.replace("</td>", "").replace("</tr>", ""),
        HTML.replace("<table", "<table><tr><td>menu</td></tr></table><table"),
        "<?xml version='1.0'?>\n" + HTML,
    ],
)
def test_a_web_page_named_xls_is_read_as_excel_shows_it(tmp_path: Path, text: str) -> None:
    leads = put(tmp_path / "reporte.xls", text)
    with open_source(leads) as source:
        assert source.columns == ["Nombre", "Celular"]
        assert ["".join(number.split()) for number in source.numbers()] == [N1, N2]
        assert source.values(next(source.rows()))[0] in ("Ana\nMaría", "Ana\nMaría")


def test_a_web_page_in_a_legacy_encoding_is_read(tmp_path: Path) -> None:
    page = HTML.replace("utf-8", "iso-8859-1").replace("Reporte", "Año")
    leads = put(tmp_path / "reporte.xls", page.encode("cp1252"))
    assert len(numbers_of(leads)) == 2


def test_cells_that_span_rows_and_columns_keep_the_others_in_place(tmp_path: Path) -> None:
    page = (
        "<table><tr><th rowspan=2>Nombre<th>Ciudad<th>Celular</tr><tr><td>x<td>y</tr>"
        f"<tr><td rowspan=2>Ana<td>Lima<td>{N1}</tr><tr><td>Cusco<td>{N2}</tr></table>"
    )
    with open_source(put(tmp_path / "a.xls", page)) as source:
        rows = [list(source.values(row)) for row in source.rows()]
    assert rows[-2:] == [["Ana", "Lima", N1], ["", "Cusco", N2]]


def data(kind: str, text: str, attributes: str = "") -> str:
    return f'<Cell{attributes}><Data ss:Type="{kind}">{text}</Data></Cell>'


SPREADSHEET_ML = f"""<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>
<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet">
<Worksheet ss:Name="Portada"><Table><Row>{data("String", "Reporte")}</Row></Table></Worksheet>
<Worksheet ss:Name="Leads"><Table>
<Row>{data("String", "Nombre")}{data("String", "Celular", ' ss:Index="3"')}</Row>
<Row ss:Index="4">{data("String", "Ana")}{data("Number", N1, ' ss:Index="3"')}</Row>
<Row ss:Hidden="1"><Cell ss:MergeAcross="1"/>{data("Number", N2 + ".0")}</Row>
</Table></Worksheet></Workbook>"""


def test_the_xml_of_excel_2003_is_read(tmp_path: Path) -> None:
    leads = put(tmp_path / "a.xls", SPREADSHEET_ML)
    assert numbers_of(leads) == [N1, N2]
    with open_source(leads, visible_only=True) as source:
        assert list(source.numbers()) == [N1]
        assert "'Portada'" in source.notes[0]
        assert "1 row of sheet 'Leads'" in source.notes[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "utf-8-sig"])
@pytest.mark.parametrize("name", ["data.xls", "data.xlsx", "data.csv", "data"])
def test_text_is_text_whatever_its_name(tmp_path: Path, name: str, encoding: str) -> None:
    text = f"Nombre\tCelular\r\nAna\t{N1}\r\nJosé\t{N2}\r\n"
    assert numbers_of(put(tmp_path / name, text.encode(encoding))) == [N1, N2]


def zipped(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_one_file_of_a_zip_archive_is_read(tmp_path: Path) -> None:
    text = f"name,phone\nAna,{N1}\n"
    members: dict[str, str | bytes] = {
        "export/leads.csv": text,
        "__MACOSX/export/._leads.csv": b"\0\0",
        "export/.DS_Store": b"\0",
    }
    for name in ("leads.zip", "leads.csv", "leads.xlsx"):
        leads = zipped(tmp_path / name, dict(members))
        with open_source(leads) as source:
            assert list(source.numbers()) == [N1]
            assert source.notes == ["reading 'export/leads.csv' from the zip archive"]
            with pytest.raises(FileError, match="would overwrite the input"):
                FileSink(leads, source, file_format="csv")
    with open_source("-", stdin=io.BytesIO((tmp_path / "leads.zip").read_bytes())) as source:
        assert list(source.numbers()) == [N1]


def test_several_files_of_a_zip_archive_are_named(tmp_path: Path) -> None:
    leads = zipped(tmp_path / "a.zip", {"a.csv": "phone\n1\n", "b.csv": "phone\n2\n"})
    assert "contains 2 files ('a.csv', 'b.csv'); unpack it" in refusal_of(leads)
    assert "contains 0 files" in refusal_of(zipped(tmp_path / "b.zip", {".DS_Store": "x"}))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture"),
        (b"\0\0\0\x18ftypheic", "a picture or a video"),
        (b"SQLite format 3\0" + bytes(80), "a SQLite database"),
        (b"{\\rtf1\\ansi 987654321}", r"a text document \(RTF\)"),
        (b"ARROW1\0\0", r"an Arrow \(Feather\) file"),
        (b"FEA1\0\0\0\0", r"an Arrow \(Feather\) file"),
        (b"\xff\xff\xff\xff\x78\0\0\0\x10", "an Arrow stream"),
        (b"<stata_dta><header><release>118", "a Stata file"),
        (b"\x73\x02\x01\0\x03\0\x02\0", "a Stata file"),
        (b"$FL2@(#) SPSS DATA FILE MS Windows 26.0", "an SPSS file"),
        (bytes(12) + bytes.fromhex("c2ea8160b31411cfbd92080009c7318c181f1011"), "a SAS file"),
        (gzip.compress(b"RDX3\nX\n\0\0\0\3", mtime=0), "an R data file"),
        (gzip.compress(b"X\n\0\0\0\3\0\4", mtime=0), "an R data file"),
        (b"\x80\5\x95\x20\0\0\0\0\0\0\0]\x94(\x8c\t987650001\x94e.", "a Python pickle"),
        (b"\x1f\x9d\x90n\xde\xc8\xd2", "compressed with compress"),
        (lzma.compress(b"phone\n987654321\n", format=lzma.FORMAT_ALONE), "compressed with lzma"),
        (zlib.compress(b"phone\n987654321\n" * 9, 9) * 3, "binary data"),
        (b"BZh91AY&SY", "compressed with bzip2"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7-Zip archive"),
        (b"Rar!\x1a\7\0", "a RAR archive"),
        (b"-- MySQL dump 10.13\nINSERT INTO leads VALUES (1,'987654321');\n", "a database dump"),
        (b"--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n", "a database dump"),
        (b"COPY public.leads (id, phone) FROM stdin;\n1\t987654321\n\\.\n", "a database dump"),
        (b"/*!40101 SET NAMES utf8 */;\nDROP TABLE IF EXISTS `leads`;\n", "a database dump"),
        (b"<?xml version='1.0'?><leads><lead phone='987654321'/></leads>", "an XML document"),
        (b"<html><body>Sesion expirada</body></html>", "web page contains no table"),
        (b"MIME-Version: 1.0\nContent-Type: multipart/related\n", "a web archive"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"),
            "password-protected",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "WordDocument".encode("utf-16-le"),
            "a Word document",
        ),
        (bytes(range(256)) * 20, "binary data"),
    ],
)
@pytest.mark.parametrize("name", ["leads.csv", "leads.xlsx", "leads"])
def test_unsupported_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    with pytest.raises(FileError, match=what):
        open_source(put(tmp_path / name, content))


@pytest.mark.parametrize(
    ("member", "what"),
    [
        ("word/document.xml", "a Word document"),
        ("ppt/presentation.xml", "a PowerPoint presentation"),
        ("Index/Document.iwa", "an Apple Numbers or Pages document"),
    ],
)
def test_documents_that_are_zip_archives_are_named(tmp_path: Path, member: str, what: str) -> None:
    leads = zipped(tmp_path / "leads.xlsx", {"[Content_Types].xml": "<x/>", member: "<x/>"})
    assert what in refusal_of(leads)
