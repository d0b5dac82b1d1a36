from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accucheck._errors import ConfigurationError
from accucheck.cli import main
from accucheck.cli._app import app
from accucheck.cli._settings import Settings


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("ACCUCHECK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def write(project: str = "", user: str = "") -> None:
    if project:
        Path("accucheck.toml").write_text(project)
    if user:
        place = Path("../config/accucheck")
        place.mkdir(parents=True, exist_ok=True)
        (place / "accucheck.toml").write_text(user)


def parsed(*words: str) -> dict[str, Any]:
    _, bound, _ = app.parse_args(["bulk", "in.csv", "-o", "out.csv", *words])
    bound.apply_defaults()
    return vars(bound.arguments["options"])


def test_the_command_line_beats_the_environment_beats_the_project_beats_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(project="workers = 3\nrate = 30\n", user="workers = 4\nrate = 40\nburst = 4\n")
    pace = parsed()["pace"]
    assert (pace.workers, pace.rate, pace.burst) == (3, 30.0, 4)
    monkeypatch.setenv("ACCUCHECK_WORKERS", "2")
    assert parsed()["pace"].workers == 2
    assert parsed("--workers", "1")["pace"].workers == 1


def test_a_profile_named_on_the_command_line_also_beats_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(user='api_id = "mine"\n[profile.cliente-a]\napi_id = "theirs"\nmobile_only = true\n')
    assert parsed()["account"].api_id == "mine"
    monkeypatch.setenv("ACCUCHECK_API_ID", "variable")
    assert parsed("--profile", "cliente-a")["account"].api_id == "theirs"
    assert parsed("--profile", "cliente-a")["reading"].mobile_only is True
    monkeypatch.setenv("ACCUCHECK_PROFILE", "cliente-a")
    assert parsed()["account"].api_id == "variable"


def test_an_unknown_profile_is_an_error_that_lists_the_known_ones() -> None:
    write(project="[profile.a]\nrate = 5\n")
    with pytest.raises(ConfigurationError, match="no profile 'b'; the profiles are a"):
        parsed("--profile", "b")


def test_relative_paths_count_from_the_file_that_names_them(tmp_path: Path) -> None:
    write(user='secret_file = "secret"\n')
    assert parsed()["account"].secret_file == tmp_path / "config/accucheck/secret"


def test_a_secret_in_the_environment_beats_a_file_named_in_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(user='secret_file = "secret"\n[profile.a]\nsecret_file = "other"\n')
    monkeypatch.setenv("ACCUCHECK_API_SECRET", "s")
    assert parsed()["account"].secret_file is None
    assert parsed("--profile", "a")["account"].secret_file is not None


@pytest.mark.parametrize(
    ("project", "told"),
    [
        ("max_call = 3", "did you mean max-calls"),
        ("[profile.a]\nmax_call = 3", "did you mean max-calls"),
        ('api_secret = "x"', "secret_file or secret_command"),
        ('secret_command = "rm -rf"', "anyone could have written that file"),
        ('base_url = "https://example.com"', "anyone could have written that file"),
        ("rate =", "not valid TOML"),
        ("[bulk]\nrate = 5", r"only \[profile"),
        ('profile = "a"', "--profile"),
    ],
)
def test_a_wrong_settings_file_is_an_error_that_says_what_to_do(project: str, told: str) -> None:
    write(project=project)
    with pytest.raises(ConfigurationError, match=told):
        parsed()


@pytest.mark.parametrize("name", ["ACCUCHECK_MAX_CALL", "ACCUCHECK_MAXCALLS"])
def test_an_unknown_variable_is_an_error_with_a_suggestion(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "30")
    with pytest.raises(ConfigurationError, match=f"{name} is unknown; did you mean ACCUCHECK_MAX_CALLS"):
        parsed()


def test_variables_and_settings_of_other_commands_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    write(project="price = 0.002\n")
    monkeypatch.setenv("ACCUCHECK_CALLS_PER_NUMBER", "1.2")
    monkeypatch.setenv("ACCUCHECK_SANDBOX_SEED", "1")
    monkeypatch.setenv("ACCUCHECK_API_SECRET", "s")
    monkeypatch.setenv("ACCUCHECK_RATE", "")  # empty counts as unset
    assert parsed()["pace"].rate == "auto"


def test_config_show_says_where_each_value_comes_from_and_never_the_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project="rate = 30\n", user='[profile.a]\nworkers = 7\nsecret_file = "s"\n')
    monkeypatch.setenv("ACCUCHECK_API_SECRET", "hush")
    assert main(["config", "show", "--profile", "a", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "hush" not in shown
    found = {row["setting"]: (row["value"], row["from"]) for row in json.loads(shown)["settings"]}
    assert found["rate"] == (30, "accucheck.toml")
    assert found["workers"][0] == 7
    assert found["workers"][1].startswith("--profile a in ")
    assert main(["config", "show"]) == 0
    assert "(accucheck.toml)" in capsys.readouterr().out


def test_without_files_and_variables_nothing_is_set() -> None:
    settings = Settings(lambda: app, environment={})
    assert settings.find("rate", settings.layers()) is None
