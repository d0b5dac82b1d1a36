from __future__ import annotations

from collections.abc import Iterator

import pytest
from cyclopts import App
from cyclopts.argument import Argument

from accucheck.cli import main
from accucheck.cli._app import app
from accucheck.cli._exit import EXPLANATION

CLIENT_COMMANDS = ("check", "bulk", "plan", "diff", "demo")


def commands(of: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in of:
        if name.startswith("-"):
            continue
        command = of[name]
        yield (*path, name), command
        yield from commands(command, (*path, name))


ALL = [pytest.param(path, command, id=" ".join(path)) for path, command in commands()]


def options(command: App) -> list[Argument]:
    if command.default_command is None:
        return []
    arguments = command.assemble_argument_collection(parse_docstring=True)
    return [
        argument for argument in arguments if not argument.children and argument.parameter.parse is not False
    ]


def test_the_commands_are_those_that_the_readme_names() -> None:
    assert [" ".join(path) for path, _ in commands()] == [
        "check",
        "bulk",
        "plan",
        "report",
        "diff",
        "demo",
        "sandbox",
        "doctor",
        "config",
        "config show",
        "serve",
        "ledger",
        "ledger list",
        "ledger info",
        "ledger purge",
        "ledger forget",
        "ledger repair",
        "ledger init",
        "ledger export",
        "ledger statement",
    ]


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_command_and_every_option_says_what_it_does(path: tuple[str, ...], command: App) -> None:
    assert command.help.strip()
    for option in options(command):
        assert option.parameter.help, f"{' '.join(path)} {option.name} has no help"
        assert option.parameter.help.rstrip().endswith((".", "?", "…"))


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_help_page_begins_with_examples_and_shows_exit_codes_where_scripts_need_them(
    path: tuple[str, ...], command: App, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main([*path, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.split("╭─")[0].count("$ accucheck ") >= 2
    assert page.endswith("\n")
    for code, words in EXPLANATION.items():
        assert (f"{code.value:>5}  {words}" in page) == (path in (("check",), ("bulk",)))


def test_the_first_help_page_lists_the_exit_codes_and_the_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert "ACCUCHECK_API_SECRET" in page
    for code, words in EXPLANATION.items():
        assert f"{code.value:>5}  {words}" in page


CLIENTS = [case for case in ALL if case.values[0][0] in CLIENT_COMMANDS]  # type: ignore[index]


@pytest.mark.parametrize(("path", "command"), CLIENTS)
def test_no_option_takes_the_secret(path: tuple[str, ...], command: App) -> None:
    names = {name for option in options(command) for name in option.names}
    assert {name for name in names if "secret" in name or "password" in name} <= {
        "--secret-file",
        "--secret-command",
    }


def test_the_environment_of_the_client_does_not_reach_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCUCHECK_RATE", "5")
    monkeypatch.setenv("ACCUCHECK_SANDBOX_SEED", "12")
    _, bound, _ = app.parse_args(["sandbox"])
    settings = bound.arguments["settings"]
    assert (settings.rate, settings.seed) == (None, 12)


def test_the_command_line_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCUCHECK_RATE", "5:10")
    _, bound, _ = app.parse_args(["bulk", "in.csv", "-o", "out.csv"])
    assert bound.arguments["options"].pace.rate == (5.0, 10.0)
    _, bound, _ = app.parse_args(["bulk", "in.csv", "-o", "out.csv", "--rate", "7"])
    assert bound.arguments["options"].pace.rate == 7.0
