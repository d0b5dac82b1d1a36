from __future__ import annotations

import sys
from pathlib import Path

import pytest

from accucheck import _errors
from accucheck.cli._account import find_id, find_secret


def nobody(prompt: str) -> str:
    raise AssertionError("nobody should be asked")


def test_a_secret_file_is_preferred_and_stripped(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    found = find_secret(
        file, environment={"ACCUCHECK_API_SECRET": "other"}, is_terminal=lambda: True, ask=nobody
    )
    assert found == "s3cret"


def test_the_environment_is_read_before_a_person_is_asked() -> None:
    found = find_secret(
        None, environment={"ACCUCHECK_API_SECRET": " s3cret "}, is_terminal=lambda: True, ask=nobody
    )
    assert found == "s3cret"


def test_a_person_at_a_terminal_is_asked() -> None:
    assert find_secret(None, environment={}, is_terminal=lambda: True, ask=lambda prompt: "typed ") == "typed"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_without_a_secret_the_error_says_where_to_put_it(is_terminal: bool) -> None:
    with pytest.raises(_errors.ConfigurationError, match=r"ACCUCHECK_API_SECRET.*--secret-file"):
        find_secret(None, environment={}, is_terminal=lambda: is_terminal, ask=lambda prompt: "")


@pytest.mark.parametrize("content", ["\ufeffs3cret\r\n".encode(), "s3cret\n".encode("utf-16"), b" s3cret"])
def test_a_secret_file_may_come_from_powershell(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    assert find_secret(file, environment={}, ask=nobody) == "s3cret"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True), (0o640, True)])
def test_a_secret_file_that_others_can_read_gives_a_warning(
    tmp_path: Path, mode: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret")
    file.chmod(mode)
    find_secret(file, environment={}, ask=nobody)
    shown = capsys.readouterr().err
    assert (f"chmod 600 {file}" in shown) == warned
    assert "s3cret" not in shown


def test_a_secret_can_come_from_a_command() -> None:
    command = f"{sys.executable} -c 'print(\"s3cret\")'"
    assert find_secret(None, command, environment={"ACCUCHECK_API_SECRET": "other"}, ask=nobody) == "s3cret"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("no-such-program-here", "No such file"),
        (f"{sys.executable} -c 'print(\"s3cret\"); raise SystemExit(4)'", "exit code 4"),
        (f"{sys.executable} -c ''", "printed nothing"),
        ("'", "cannot run"),
    ],
)
def test_a_secret_command_that_fails_is_an_error_without_its_output(command: str, told: str) -> None:
    with pytest.raises(_errors.ConfigurationError, match=told) as caught:
        find_secret(None, command, environment={}, ask=nobody)
    assert caught.value.__cause__ is None or "s3cret" not in str(caught.value.__cause__)


def test_the_api_id_is_prompted_for_like_the_secret() -> None:
    assert find_id(None, is_terminal=lambda: True, ask=lambda prompt: " typed\n") == "typed"
    assert find_id("given", is_terminal=lambda: True, ask=nobody) == "given"
    with pytest.raises(_errors.ConfigurationError, match="ACCUCHECK_API_ID"):
        find_id(None, is_terminal=lambda: False, ask=nobody)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00", b"\xff\xfe\xfd\xfc\x00"])
def test_a_secret_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(_errors.ConfigurationError, match="secret"):
        find_secret(file, environment={}, ask=nobody)


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(_errors.ConfigurationError, match=r"absent: No such file"):
        find_secret(tmp_path / "absent", environment={}, ask=nobody)
