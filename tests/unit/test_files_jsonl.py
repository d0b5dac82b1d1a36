"""JSON lines: our keys follow a row's own, whose bytes stay unchanged."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck.files import RESULT_COLUMNS, FileSink, ResultColumns, StreamSink, open_source

AT = datetime(2026, 11, 26, 8, 47, 23, 500_000, UTC)
ANSWER = ResultColumns(
    True, date(2023, 12, 12), False, None, "=Hola\x1b[2J", "OK", "", "TID591c", "+51987654321", AT
)
OURS = (
    '"whatsapp":true,"status_update":"2023-12-12","business_user":false,"avatar":null,'
    '"signature":"=Hola[2J","status":"OK","reason":"","request_id":"TID591c",'
    '"number":"+51987654321","checked_at":"2026-11-26T08:47:23Z"}\n'
)


def no_sync(descriptor: int) -> None:
    """Skip fsync: these tests write many files, and none needs to survive a power cut."""


class Drip(io.RawIOBase):
    """Returns one chunk per read, like a pipe with a slow writer."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._chunks:
            return 0
        chunk = self._chunks.pop(0)
        if len(chunk) > len(buffer):
            self._chunks.insert(0, chunk[len(buffer) :])
            chunk = chunk[: len(buffer)]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def written(path: Path, suffix: str = ".jsonl") -> str:
    output = path.with_name(f"output{suffix}")
    with open_source(path) as source, FileSink(output, source, fsync=no_sync) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    return output.read_text(encoding="utf-8")


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    return tmp_path / "leads.jsonl"


@pytest.mark.parametrize(
    "record",
    [
        '{"name": "Jos\\u00e9", "phone": "987654321"}',
        '{"phone":987654321, "big": 12345678901234567890.10, "e": 1E400}',
        '{"phone": 987654321.0,\t"nested": {"a": [1, 2]} }',
        '{"phone": 9.87654321E8}',
        '{"phone": "987654321", "score": NaN, "half": "\\ud800"}',
    ],
)
def test_an_object_keeps_its_text(leads: Path, record: str) -> None:
    leads.write_text(record + "\n")
    assert written(leads) == record[:-1].rstrip() + "," + OURS
    with open_source(leads) as source:
        assert list(source.numbers()) == ["987654321"]


def test_a_key_may_hold_quotes_and_control_characters(leads: Path) -> None:
    leads.write_text(json.dumps({'Celular "x"\t\\': "987654321", "n": 1}) + "\n")
    with open_source(leads) as source:
        assert list(source.numbers()) == ["987654321"]
    assert written(leads).endswith(OURS)


def test_bare_strings_and_numbers_become_objects(leads: Path) -> None:
    leads.write_text('"987654321"\n912345678\n')
    with open_source(leads) as source:
        assert list(source.numbers()) == ["987654321", "912345678"]
    assert written(leads) == '{"phone":"987654321",' + OURS + '{"phone":912345678,' + OURS


def test_a_bad_line_is_a_row_with_a_reason(leads: Path) -> None:
    leads.write_text('{"phone":"987654321"}\n{"phone": \n["987654321"]\n\n+51 987\n{"phone":"912345678"}\n')
    with open_source(leads) as source:
        assert [(row.number, row.fault) for row in source.rows()] == [
            ("987654321", ""),
            ("", "Line 2 is not JSON."),
            ("", "Line 3 is a list, not an object or a number."),
            ("", "Line 5 is not JSON."),
            ("912345678", ""),
        ]
    values = [json.loads(line) for line in written(leads).splitlines()]
    assert [value["phone"] for value in values] == [
        "987654321",
        '{"phone":',
        '["987654321"]',
        "+51 987",
        "912345678",
    ]


@pytest.mark.parametrize("record", ['{"name":"Ana"}', '{"phone":null}', '{"phone":""}', "{}"])
def test_a_row_without_a_number_is_a_row(leads: Path, record: str) -> None:
    leads.write_text('{"phone":"987654321"}\n' + record + "\n")
    with open_source(leads) as source:
        assert list(source.numbers()) == ["987654321", ""]
    assert json.loads(written(leads).splitlines()[1])["whatsapp"] is True


def test_deep_nesting_is_a_fault_of_its_line_alone(leads: Path) -> None:
    leads.write_text('{"phone":"987654321"}\n{"phone":' + "[" * 100_000 + "\n")
    with open_source(leads) as source:
        assert [row.number for row in source.rows()] == ["987654321", ""]


def test_keys_that_any_row_has_get_a_prefix_in_all_rows(leads: Path) -> None:
    leads.write_text('{"phone":"987654321"}\n' * 500 + '{"phone":"912345678","Status":"new"}\n')
    lines = [json.loads(line) for line in written(leads).splitlines()]
    assert {line["accucheck_status"] for line in lines} == {"OK"}
    assert lines[-1]["Status"] == "new"


def test_a_live_row_with_a_key_of_ours_keeps_it() -> None:
    live = Drip([b'{"phone":"987654321"}\n', b'{"phone":"912345678"}\n', b'{"phone":"1","status":"new"}\n'])
    source, stream = open_source("-", live=True, stdin=io.BufferedReader(live)), io.BytesIO()
    with StreamSink(stream, source, every_row=True) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["status"] for line in lines] == ["OK", "OK", "new"]
    assert lines[2]["accucheck_status"] == "OK"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_are_read_and_written_as_utf_8(leads: Path, encoding: str) -> None:
    leads.write_bytes('{"phone":"987654321","n":"José"}\n{"phone":"912345678","n":"Ana"}\n'.encode(encoding))
    assert [json.loads(line)["n"] for line in written(leads).splitlines()] == ["José", "Ana"]


def test_json_lines_are_recognized_by_their_content(tmp_path: Path) -> None:
    leads = tmp_path / "leads.txt"
    leads.write_text('{"phone":"987654321"}\n')
    with open_source(leads) as source:
        assert source.format == "jsonl"


def test_json_lines_become_csv_with_every_key_of_every_row(leads: Path) -> None:
    leads.write_text(
        '{"phone":987654321,"list":[1,"é"]}\n' * 300 + '{"late":true,"phone":"1,2","half":"\\ud800"}\n"5"\n'
    )
    lines = written(leads, ".csv").splitlines()
    assert lines[0].startswith("phone,list,late,half,whatsapp,")
    assert lines[1].startswith('987654321,"[1, ""é""]",,,yes,')
    assert lines[301].startswith('"1,2",,true,?,yes,')
    assert lines[302].startswith("5,,,,yes,")


def test_csv_becomes_json_lines_with_names_for_nameless_columns(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("phone,name,name\n987654321,Ana,María\n912345678,a,b,c\n")
    lines = [json.loads(line) for line in written(leads).splitlines()]
    assert list(lines[1])[:4] == ["phone", "name", "name_2", "column_4"]
    assert list(lines[1].values())[:4] == ["912345678", "a", "b", "c"]
    assert lines[0]["whatsapp"] is True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=8), json_values, max_size=4) | st.integers() | st.text(), max_size=10
    )
)
def test_any_row_comes_back_with_its_own_values(
    tmp_path_factory: pytest.TempPathFactory, rows: list[object]
) -> None:
    path = tmp_path_factory.mktemp("any") / "leads.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [{"phone": "987654321"}, *rows]))
    back = [json.loads(line) for line in written(path).splitlines()]
    assert len(back) == len(rows) + 1
    for row, value in zip(rows, back[1:], strict=True):
        own = row if isinstance(row, dict) else {"phone": row}
        assert list(value.items())[: len(own)] == list(own.items())
        assert len(value) == len(own) + len(RESULT_COLUMNS)


def test_a_number_of_thousands_of_digits_is_a_cell_like_others(leads: Path) -> None:
    leads.write_text('{"phone":987654321,"n":' + "9" * 5000 + "}\n")
    with open_source(leads) as source:
        (row,) = source.rows()
        assert (row.number, row.fault, source.columns) == ("987654321", "", ["phone", "n"])
        assert source.values(row) == [987654321, "9" * 5000]
