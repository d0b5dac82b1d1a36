"""``accucheck config``: which settings are in effect, and where each comes from."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from accucheck.cli._console import print_json, report
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._options import DEFAULT_TALK, Talk
from accucheck.cli._settings import FILE_NAME, Settings, every_option, user_file

__all__ = ["app"]

app = App(name="config", help_epilogue="")


@app.command
def show(*, profile: str | None = None, json: bool = False, talk: Talk = DEFAULT_TALK) -> ExitCode:
    """Show every setting that is not a default, and where it comes from.

    $ accucheck config show

    $ accucheck config show --profile cliente-a --json

    The order, strongest first: command line, environment, profile, accucheck.toml in the current directory,
    accucheck.toml in your configuration directory.

    Parameters
    ----------
    profile
        Profile of accucheck.toml to use.
    json
        Print one JSON object.
    """
    from accucheck.cli._app import app as root

    settings = Settings(lambda: root)
    layers = settings.layers(profile)
    found = {
        option: settings.find(option, layers) for option in sorted({each for each, _ in every_option(root)})
    }
    rows = [
        {"setting": option.replace("-", "_"), "value": place[1], "from": place[0].name}
        for option, place in found.items()
        if place is not None and option != "json"
    ]
    secret = "environment (ACCUCHECK_API_SECRET)" if settings.secret_in_environment else None
    files = {"project": Path.cwd() / FILE_NAME, "user": user_file()}
    if json:
        print_json(
            {
                "settings": rows,
                "secret": secret,
                "files": {
                    name: {"path": str(path), "exists": path.is_file()} for name, path in files.items()
                },
            }
        )
        return ExitCode.ALL_ANSWERED
    facts = [(str(row["setting"]), f"{_as_text(row['value'])}  ({row['from']})") for row in rows]
    if secret is not None:
        facts.append(("secret", f"set  ({secret})"))
    facts += [
        (f"{name} file", f"{path}{'' if path.is_file() else ' (does not exist)'}")
        for name, path in files.items()
    ]
    report(facts, sys.stdout)
    return ExitCode.ALL_ANSWERED


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
