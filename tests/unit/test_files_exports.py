"""Lists as real programs export them: each is read completely, or refused with an error that names it.

The names say which program wrote the list. The formats come from the programs' documentation and bug reports; the
cells are made up.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.files import FileError, open_source

A, B, C = 987654321, 987654322, 987654323
ROWS = [{"nombre": "Ana", "celular": str(A)}, {"nombre": "Luis", "celular": str(B)}]


def read(path: Path, **options: Any) -> list[int | str]:
    """Return each row's number, or its problem in a word."""
    found: list[int | str] = []
    with open_source(path, **options) as source:
        for row in source.rows():
            try:
                found.append(normalize(row.number))
            except InvalidNumber as error:
                found.append(error.problem)
    return found


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


TABLES: dict[str, tuple[str | bytes, list[int | str]]] = {
    "google_contacts.csv": (
        "First Name,Last Name,E-mail 1 - Label,Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,Phone 2 - Value\n"
        f"Ana,Paz,* Work,Mobile,+51 987 654 321,Work,01 4441234\nLuis,Ríos,,Mobile,{B},,\n",
        [A, B],
    ),
    "google_contacts_2018.csv": (
        f"Name,Given Name,Phone 1 - Type,Phone 1 - Value\nAna,Ana,Mobile,+51 {A}\n".encode("utf-16"),
        [A],
    ),
    "hubspot.csv": (
        '"Record ID","First Name","Phone Number","Mobile Phone Number","Lead Status","Create Date"\n'
        f'"51","Ana","+51 1 4441234","+51{A}","NEW","2025-01-02 10:00"\n'
        f'"52","Luis","","{B}","OPEN","2025-01-02 10:00"\n',
        [A, B],
    ),
    "kommo.csv": (
        "ID;Lead;Teléfono oficina (contacto);Teléfono celular (contacto);Otro teléfono (contacto)\n"
        f"1;Ana;'+5114441234;'+51{A};\n2;Luis;;'+51{B};'+51{C}\n",
        [A, B],
    ),
    "salesforce.csv": (
        '"Lead ID","Company","Phone","Mobile","Fax","Do Not Call"\n'
        '"00Q000000000001","ACME","(01) 444-1234","(51) 987-654-321","","0"\n'
        '"00Q000000000002","ACME","","987.654.322","","0"\n',
        [A, B],
    ),
    "meta_leads.csv": (
        "id\tcreated_time\tad_id\tform_id\tfull_name\tphone_number\tlead_status\n"
        f"l:1\t2025-03-01T10:00:00-05:00\tag:120200000000000001\tf:900000000000001\tAna\tp:+51{A}\tCREATED\n".encode(
            "utf-16"
        ),
        [A],
    ),
    "tiktok_leads.csv": (
        f"lead_id,created_time,Name,Phone number\n7300000000000000001,2025-01-01 00:00:00 UTC,Ana,+51-{A}\n",
        [A],
    ),
    "whatsapp_group_members.csv": (
        "Country Code,Country Name,Phone Number,Formatted Phone,Is My Contact,Saved Name\n"
        f"51,Peru,51{A},+51 987 654 321,false,\n51,Peru,51{B},+51 987 654 322,false,\n",
        [A, B],
    ),
    "reniec.csv": (f"DNI,Apellidos y Nombres,Celular\n43211234,PAZ ANA,{A}\n07654321,RIOS LUIS,{B}\n", [A, B]),
    "no_header.csv": (f"43211234,PAZ ANA,{A}\n07654321,RIOS LUIS,{B}\n", [A, B]),
    "padron_sunat.txt": (
        f"RUC|NOMBRE O RAZÓN SOCIAL|ESTADO|TELEFONO|\n20123456789|ACME SAC|ACTIVO|01-4441234|\n"
        f"20123456780|FOO SRL|ACTIVO|{A}|\n".encode("latin-1"),
        [14441234, A],
    ),
    "excel_en_espanol.csv": (
        f"Nombre;Celular;Saldo\r\nAna;{A};1.234,50\r\nLuis;9,87654E+08;2,00\r\nEva;9,87654323E+08;3,5\r\n",
        [A, "not_peruvian", C],
    ),
    "sep_line.csv": (f"sep=;\r\nNombre;Celular\r\nAna;{A}\r\nLuis;{B}\r\n", [A, B]),
    "sep_line_utf16.csv": (f"\ufeffsep=\t\r\nNombre\tCelular\r\nAna\t{A}\r\n".encode("utf-16-le"), [A]),
    "google_forms.csv": (
        '"Marca temporal","Número de WhatsApp","¿Autoriza?"\n'
        f'"2025/03/01 10:00:00 a. m. GMT-5","{A}","Sí"\n"2025/03/01 10:01:00 a. m. GMT-5","no tengo","No"\n',
        [A, "letters"],
    ),
    "google_forms_question.csv": (
        '"Timestamp","¿Cuál es tu número de celular (WhatsApp) para enviarte promociones?","Edad"\n'
        f'"2025/03/01 10:00:00","{A}","23"\n',
        [A],
    ),
    "extensions.csv": (
        "Nombre,Telefono\nA,(01) 444-1234 anexo 123\nB,01 4441235 Anx. 12\nC,+51 1 4441236 ext 5\n"
        "D,014441237 x45\nE,+51 1 219-1000 (Anexo: 2345)\nF,444-1238 anexo 3\n",
        [14441234, 14441235, 14441236, 14441237, 12191000, "unknown_area"],
    ),
    "landlines.csv": (
        "empresa,telefono\nA,+51 1 2191000\nB,(01)2191001\nC,+51-44-234567\nD,084-234567\nE,5112191002\n"
        "F,+51 (01) 219 1003\n",
        [12191000, 12191001, 44234567, 84234567, 12191002, 12191003],
    ),
    "scientific.csv": (
        f'n,telefono\nA,9.87654321E+08\nB,"9,87654322E+08"\nC,9.87654323e8\nD,9.88E+08\nE,5.1{A}E+10\n',
        [A, B, C, "not_peruvian", A],
    ),
    "several_numbers.csv": (
        f"Nombre,Teléfonos\nAna,{A} / 01-4441234\nLuis,{B} y {C}\nEva,\"Cel: {A}, Casa: {B}\"\nMia,{C}\n",
        ["several", "several", "several", C],
    ),
    "utf16le_without_mark.csv": (f"Ñandú,Teléfono\nÁéíóú,{A}\n".encode("utf-16-le"), [A]),
    "utf16be_without_mark.csv": (f"Nombre,Celular\nAna,{A}\n".encode("utf-16-be"), [A]),
    "title_and_total.csv": (
        f"REPORTE DE CLIENTES,,\nFecha: 01/02/2025,,\n,,\nNro,Cliente,Celular\n1,Ana,{A}\n,,\nTOTAL,1,\n",
        [A, "empty"],
    ),
    "trailing_commas.csv": (f"Nombre,Celular,,,\nAna,{A},,,\n,,,,\nLuis,{B},,,\n,,,,\n,,,,\n", [A, B]),
    "two_header_rows.csv": (f"Cliente,,Contacto,\nNombre,DNI,Celular,Correo\nAna,43211234,{A},a@x\n", [A]),
    "end_of_file_of_dos.csv": (f"Nombre,Celular\r\nAna,{A}\r\n\x1a", [A]),
    "line_ends_of_old_macs.csv": (f"Nombre,Celular\rAna,{A}\rLuis,{B}\r", [A, B]),
    "text_as_formula.csv": (f'Nombre,Celular\nAna,="{A}"\nLuis,"=""{B}"""\nEva,\'{C}\n', [A, B, C]),
    "whole_mails_in_a_cell.csv": (
        'Nota,Celular\n"' + "Hola, te escribo por lo de ayer\n" * 3000 + f'",{A}\ny,{B}\n',
        [A, B],
    ),
    "units.csv": (f"Nombre\x1fCelular\nAna 43211234\x1f{A}\nLuis 41112223\x1f{B}\n", [A, B]),
    "hive.csv": (f"Ana 7654321\x01{A}\nLuis 20\x01{B}\n", [A, B]),
    "caret.csv": (f"Nombre^DNI^Celular\nAna^43211234^{A}\n", [A]),
    "bullets.txt": (f"- {A}\n* {B}\n1. {C}\n2) {A}\n3.- {B}\n104. {C}\n", [A, B, C, A, B, C]),
    "whatsapp_members_copied.txt": (
        "+51 987 654 321, +51 987 654 322, +51 987 654 323, Ana, Tú\n",
        [A, B, C, "letters", "letters"],
    ),
    "pasted_array.txt": (f"['{A}', '{B}']\n", [A, B]),
    "sql_in.txt": (f"('{A}','{B}')\n", [A, B]),
    "very_wide.csv": (
        ",".join(["Celular", *(f"c{place}" for place in range(5000))]) + f"\n{A}" + ",x" * 5000 + "\n",
        [A],
    ),
    "very_long_cell.csv": (f'Celular,Nota\n{A},"{"x" * 300_000}"\n{B},y\n', [A, B]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TABLES))
def test_tables_exported_by_other_programs_are_read(tmp_path: Path, name: str) -> None:
    content, expected = TABLES[name]
    assert read(put(tmp_path, name, content)) == expected


DOCUMENTS: dict[str, tuple[Any, list[int | str]]] = {
    "pandas, orient=columns": ({"nombre": {"0": "Ana", "1": "Luis"}, "celular": {"0": A, "1": B}}, [A, B]),
    "pandas, orient=columns, one": ({"celular": {"0": A, "1": B}}, [A, B]),
    "pandas, named index": ({"dni": {"ana": "1", "luis": "2"}, "celular": {"ana": A, "luis": B}}, [A, B]),
    "pandas, orient=index": ({"0": ROWS[0], "1": ROWS[1]}, [A, B]),
    "pandas, orient=records": (ROWS, [A, B]),
    "pandas, orient=values": ([["Ana", A], ["Luis", B]], [A, B]),
    "pandas, orient=split": (
        {"columns": ["nombre", "celular"], "index": [0, 1], "data": [["Ana", A], ["Luis", B]]},
        [A, B],
    ),
    "pandas, orient=table": (
        {"schema": {"fields": [{"name": "celular", "type": "string"}], "pandas_version": "1.4.0"}, "data": ROWS},
        [A, B],
    ),
    "pandas, a series": ({"0": A, "1": B}, [A, B]),
    "names to numbers": ({"Ana": str(A), "Luis": str(B)}, [A, B]),
    "one person with two phones": ({"nombre": "Ana", "celular": str(A), "telefono": "014441234"}, [A]),
    "a page of an API": ({"status": "ok", "page": 1, "data": ROWS, "meta": {"total": 2}}, [A, B]),
    "nested contacts": (
        {"count": 2, "results": [{"id": 1, "contact": {"phone": A}}, {"id": 2, "contact": {"phone": B}}]},
        [A, B],
    ),
    "JSON:API": ({"data": [{"type": "lead", "id": "1", "attributes": {"phone": f"+51{A}"}}]}, [A]),
    "Elasticsearch": (
        {"took": 3, "hits": {"total": {"value": 1}, "hits": [{"_id": "a", "_source": {"celular": str(A)}}]}},
        [A],
    ),
    "GeoJSON": (
        {"type": "FeatureCollection", "features": [{"properties": {"telefono": A}, "geometry": {"x": [-77, -12]}}]},
        [A],
    ),
    "Firebase": ({"leads": {"-Nx1": {"celular": str(A)}, "-Nx2": {"celular": str(B)}}}, [A, B]),
    "a wrapped list of numbers": ({"numbers": [A, B]}, [A, B]),
    "JSON in a string": (json.dumps(ROWS), [A, B]),
    "lists of phones": ([{"n": "Ana", "phones": [A, B]}, {"n": "Luis", "phones": [C]}], ["several", C]),
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_json_documents_exported_by_other_programs_are_read(
    tmp_path: Path, name: str, indent: int | None
) -> None:
    document, expected = DOCUMENTS[name]
    assert read(put(tmp_path, "leads.json", json.dumps(document, indent=indent))) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("jq.json", "".join(json.dumps(row, indent=2) + "\n" for row in ROWS), [A, B]),
        ("jq.jsonl", "".join(json.dumps(row, indent=2) + "\n" for row in ROWS), [A, B]),
        ("jq_strings.json", f'"{A}"\n"{B}"\n', [A, B]),
        ("jq_numbers.json", f"{A}\n{B}\n", [A, B]),
        ("with_a_mark.jsonl", "\ufeff" + "".join(json.dumps(row) + "\n" for row in ROWS), [A, B]),
        ("arrays.jsonl", f'["nombre","celular"]\n["Ana","{A}"]\n["Luis","{B}"]\n', [A, B]),
        ("arrays_without_names.ndjson", f'["Ana",{A}]\n["Luis",{B}]\n', [A, B]),
        ("mongoexport.json", f'{{"_id":{{"$oid":"65a"}},"celular":{{"$numberLong":"{A}"}}}}\n' * 2, [A, A]),
        ("nested.jsonl", f'{{"id":43211234,"contact":{{"phone":"{A}"}}}}\n{{"id":1,"contact":null}}\n', [A, "empty"]),
        ("commas.json", f'{{"phone":"{A}"}},\n{{"phone":"{B}"}},\n', [A, B]),
        ("trailing_comma.json", f'[{{"phone":"{A}"}},{{"phone":"{B}"}},]', [A, B]),
        ("not_a_number.json", f'[{{"phone":"{A}","x":NaN}},{{"phone":"{B}","x":1}}]', [A, B]),
        ("two_arrays.json", f'[{{"phone":"{A}"}}]\n[{{"phone":"{B}"}}]\n', [A, B]),
        ("module.js", f"const phones = [\n  '{A}',\n  \"{B}\",\n];\n", [A, B]),
    ],
)  # fmt: skip
def test_json_text_exported_by_other_programs_is_read(
    tmp_path: Path, name: str, text: str, expected: list[int | str]
) -> None:
    assert read(put(tmp_path, name, text)) == expected


def test_nested_values_become_columns_and_stay_unchanged_in_json(tmp_path: Path) -> None:
    line = f'{{"id": 7, "contact": {{"name": "Ana", "phone": "{A}"}}, "contact.name": "x"}}'
    with open_source(
        put(tmp_path, "leads.jsonl", f'{line}\n{{"id":8,"contact":{{"phone":"{B}"}}}}\n')
    ) as source:
        first, second = source.rows()
        assert source.number_column.name == "contact.phone"
        assert (first.number, second.number) == (str(A), str(B))
        assert first.record.decode() == line
        assert dict(zip(source.all_columns(), source.values(first), strict=True)) == {
            "id": 7,
            "contact.name_2": "Ana",
            "contact.phone": str(A),
            "contact.name": "x",
        }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "BEGIN:VCARD\r\nVERSION:2.1\r\nFN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=4A=6F=73=C3=A9=20=4E=C3=BA=C3=B1=\r\n"
            f"=65=7A\r\nTEL;CELL;PREF:{A}\r\nTEL;X-CUSTOM(CHARSET=UTF-8,ENCODING=QUOTED-PRINTABLE,=57=41):+51-987-654-322\r\n"
            "PHOTO;ENCODING=BASE64;JPEG:/9j/4AAQSkZJRgABAQAAAQABAAD/\r\n 2wBDAAMCAgICAgMCAgIDAwMD\r\n\r\nEND:VCARD\r\n",
            [A, B],
        ),
        (
            f"BEGIN:VCARD\nVERSION:3.0\nN:Paz;Ana;;;\nitem1.TEL;type=CELL;type=pref:+51 {A}\n"
            "item1.X-ABLabel:_$!<Mobile>!$_\nEND:VCARD\nBEGIN:VCARD\nFN:Sin numero\nEND:VCARD\n",
            [A, "empty"],
        ),
        (
            "BEGIN:VCARD\nVERSION:4.0\nFN:Ana\nTEL;VALUE=uri;TYPE=\"voice,cell\":tel:+51-987-654-321\n"
            "TEL;VALUE=uri:tel:+51-1-444-1234;ext=12\nEND:VCARD\n",
            [A, 14441234],
        ),
        (f"BEGIN:VCARD\nFN:Ana\nitem1.TEL;waid=51{A}:+51 {A}\nEND:VCARD\n", [A]),
        (f"begin:vcard\nfn:Ana\ntel:{A}\nbegin:vcard\nfn:Luis\ntel:{B}\n", [A, B]),
    ],
)  # fmt: skip
def test_contacts_exported_by_other_programs_are_read(
    tmp_path: Path, text: str, expected: list[int | str]
) -> None:
    for name in ("contactos.vcf", "contactos.txt"):
        assert read(put(tmp_path, name, text)) == expected


def tar() -> bytes:
    return (
        b"leads.csv".ljust(257, b"\0") + b"ustar\0" + bytes(249) + b"Celular\n987654321\n".ljust(512, b"\0")
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("12/03/24, 10:01 a. m. - +51 987 654 321 se unió usando el enlace\n", "a WhatsApp chat"),
        ("[12/03/24, 10:01:22] Ana: 987654321\n", "a WhatsApp chat"),
        ("BEGIN:VCALENDAR\nVERSION:2.0\nEND:VCALENDAR\n", "a calendar"),
        ("dn: cn=Ana,dc=x\ncn: Ana\nmobile: 987654321\n", "LDIF"),
        ("From: a@x.pe\nTo: b@x.pe\nSubject: leads\n\n987654321\n", "an email"),
        ('ID;PWXL;N;E\nC;Y1;X1;K"Celular"\nC;Y2;X1;K987654321\nE\n', "a SYLK spreadsheet"),
        ('TABLE\r\n0,1\r\n"EXCEL"\r\n', "a DIF spreadsheet"),
        ("- nombre: Ana\n  celular: 987654321\n", "a YAML document"),
        ("| Nombre | Celular |\n|---|:---|\n| Ana | 987654321 |\n", "a table drawn as text"),
        (" nombre |  celular\n--------+-----------\n Ana    | 987654321\n", "a table drawn as text"),
        ("+-----+-----------+\n| n   | celular   |\n+-----+-----------+\n", "a table drawn as text"),
        ("insert into leads (phone) values ('987654321');\n", "a database dump"),
        (b"PK\5\6" + bytes(18), "an empty zip archive"),
        (tar(), "a tar archive"),
        (gzip.compress(tar(), mtime=0), "a tar archive"),
        ('["vcard",[["tel",{},"uri","tel:+51987654321"]]]', "mixes rows with other values"),
        ('[{phone: "987654321"}]', "not valid JSON"),
        ('{"error":{"code":401,"message":"token expired"}}', "contains no list of phone numbers"),
        ("   \n \t\n", "contains no rows"),
        ("\ufeff", "contains no rows"),
        (f"{A},{B}\n{B},{C}\n", "or read all of them with --column all"),
    ],
)
def test_formats_that_would_be_misread_are_refused_by_name(
    tmp_path: Path, content: str | bytes, what: str
) -> None:
    leads = put(tmp_path, "leads.csv", content)
    with pytest.raises(FileError, match=what):
        open_source(leads)


@pytest.mark.parametrize("encoding", ["cp1252", "mac-roman", "cp850"])
@pytest.mark.parametrize("text", ["José,Año", "PEÑA,ÁÉÍ", "Teléfono,x", "Núñez ¿Qué?,Ibáñez"])
def test_the_legacy_encoding_is_the_one_that_makes_spanish_words(
    tmp_path: Path, encoding: str, text: str
) -> None:
    leads = put(tmp_path, "leads.csv", f"Nombre,Nota,Celular\n{text},{A}\n".encode(encoding))
    with open_source(leads) as source:
        assert source.values(next(source.rows()))[:2] == text.split(",")


def test_files_in_archives_are_read_or_named(tmp_path: Path) -> None:
    def zipped(**members: str | bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name.replace("__", "."), content)
        return out.getvalue()

    text = f"Nombre,Celular\nAna,{A}\n"
    for content in (
        zipped(leads__csv=text),
        zipped(inner__zip=zipped(leads__csv=text)),
        zipped(leads__gz=gzip.compress(text.encode(), mtime=0)),
        gzip.compress(zipped(leads__csv=text), mtime=0),
        zipped(Todos__vcf=f"BEGIN:VCARD\nFN:Ana\nTEL:{A}\nEND:VCARD\n"),
    ):
        assert read(put(tmp_path, "export.zip", content)) == [A]
    with pytest.raises(FileError, match="contains 2 files"):
        open_source(put(tmp_path, "export.zip", zipped(leads__csv=text, LEEME__txt="hola")))
