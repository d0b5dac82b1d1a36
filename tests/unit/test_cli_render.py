from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck.cli import _console
from accucheck.cli._console import duration, in_options, json_line, terminal_safe, wrapped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hola", "Hola"),
        ("¡Mañana será otro día! ñ", "¡Mañana será otro día! ñ"),
        ("👩‍👩‍👧‍👦 primero", "👩‍👩‍👧‍👦 primero"),
        ("مرحبا", "مرحبا"),
        ("\x1b[2J\x1b[31mrojo\x1b[0m", "rojo"),
        ("\x1b]0;otro título\x07visto", "visto"),
        ("\x1b]8;;http://evil.example\x1b\\enlace\x1b]8;;\x1b\\", "enlace"),
        ("\x9b31mrojo", "rojo"),
        ("\x1bcreset", "reset"),
        ("\x1b(0lqqk", "lqqk"),
        ("una\r\notra\tmás", "una  otra más"),
        ("\u202etxt.exe", "txt.exe"),
        ("\u2066a\u2069\u200e\u200f\u061c", "a"),
        ("a\x00\x07\x08\x7fb", "ab"),
        ("a\ud800b", "ab"),
        ("[bold red]marcado[/bold red]", "[bold red]marcado[/bold red]"),
    ],
)
def test_untrusted_text_becomes_one_harmless_line(text: str, shown: str) -> None:
    assert terminal_safe(text) == shown


@given(st.text())
def test_no_text_keeps_a_control_or_bidi_character(text: str) -> None:
    safe = terminal_safe(text)
    assert not [c for c in safe if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not [
        c for c in safe if unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI"}
    ]
    assert terminal_safe(safe) == safe


@given(st.text(), st.integers(1, 20))
def test_a_limit_is_kept(text: str, limit: int) -> None:
    assert len(terminal_safe(text, limit)) <= limit


def test_a_long_hostile_text_is_made_safe_in_linear_time() -> None:
    assert terminal_safe("\x9d" * 200_000 + "\x1bA") == ""


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_json_line_is_the_same_value_and_one_harmless_line(record: dict[str, str]) -> None:
    line = json_line(record)
    assert json.loads(line) == record
    assert terminal_safe(line) == line or "\u200d" in line or "\xad" in line or not line.isascii()
    assert not [c for c in line if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (245, "4 min 05 s"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 04 h"),
    ],
)
def test_a_duration_reads_naturally(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.lists(st.text("abc ", min_size=1, max_size=30), max_size=8), st.integers(1, 100))
def test_wrapped_facts_are_complete_and_fit_if_possible(facts: list[str], width: int) -> None:
    lines = wrapped(facts, width)
    assert "  ".join(lines) == "  ".join(facts)
    assert all(len(line) <= width or line in facts for line in lines)


@pytest.mark.parametrize("width", [100, 80, 60, 40, 12])
def test_text_breaks_between_words_and_continues_indented(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_console, "columns_of", lambda stream: width)
    text = (
        "accucheck: " + "this job has used 1,606 calls; the cap is 200; " * 4 + "/a/path/that/is/never/broken"
    )
    first, *rest = _console.folded(text, sys.stderr).split("\n")
    assert " ".join([first, *(line.strip() for line in rest)]) == text
    assert all(line.startswith("  ") and not line.startswith("   ") for line in rest)
    assert all(len(line) <= width for line in (first, *rest) if len(line.split()) > 1)


def test_values_continue_below_each_other_or_on_a_narrow_terminal_below_their_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = [
        ("rows", "5"),
        ("  INVALID_NUMBER", "2"),
        ("numbers", "yes 5 (60.0%), no 3, failed 5, pending 3"),
    ]
    monkeypatch.setattr(_console, "columns_of", lambda stream: 50)
    out = io.StringIO()
    _console.report(facts, out)
    assert out.getvalue().splitlines() == [
        "rows              5",
        "  INVALID_NUMBER  2",
        "numbers           yes 5 (60.0%), no 3, failed 5,",
        "                  pending 3",
    ]
    monkeypatch.setattr(_console, "columns_of", lambda stream: 30)
    out = io.StringIO()
    _console.report(facts, out)
    assert out.getvalue().splitlines()[-2:] == ["numbers  yes 5 (60.0%), no 3,", "    failed 5, pending 3"]


def test_a_file_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    _console.say("word " * 60 + "end")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("library", "shown"),
    [
        ("base_url must be https", "--base-url must be https"),
        ("check base_url and endpoint", "check --base-url and --endpoint"),
        ("verify: ca.pem cannot be read", "--ca-file: ca.pem cannot be read"),
        ("this endpoint is unknown after hours", "this endpoint is unknown after hours"),
    ],
)
def test_errors_of_the_library_name_options_and_not_arguments(library: str, shown: str) -> None:
    assert in_options(library) == shown
