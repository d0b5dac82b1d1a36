"""Options not given on the command line: from the environment, then from ``accucheck.toml``; ``accucheck config``.

The order, strongest first: command line, environment, profile, project (``accucheck.toml`` in the current directory),
user (``accucheck.toml`` in the user's configuration directory). A profile is a table ``[profile.NAME]`` in either file;
one chosen with ``--profile`` also beats the environment, so that a variable set for one client cannot bill another.

A project file may come from anyone (it is next to the lists), so it can neither run a command nor decide where the
credentials are sent; those settings belong in the user's file. No file may contain the secret itself.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cyclopts import App, Parameter, Token
from cyclopts.argument import Argument, ArgumentCollection

from accucheck._errors import ConfigurationError
from accucheck.cli._console import print_json, report
from accucheck.cli._exit import ExitCode
from accucheck.cli._options import Talk

FILE_NAME = "accucheck.toml"
PREFIX = "ACCUCHECK_"
_NOT_OPTIONS = {"ACCUCHECK_API_SECRET", "ACCUCHECK_SERVE_API_ID", "ACCUCHECK_SERVE_API_SECRET"}
_OTHERS = ("ACCUCHECK_SANDBOX_", "ACCUCHECK_TEST_")
"""Prefixes of variables that are not for the client."""
_PATHS = {"ledger", "secret-file", "ca-file", "exclude", "output-dir", "summary-json"}
"""Options whose relative paths in a file count from that file's directory."""
_USER_ONLY = {"secret-command", "base-url", "proxy", "ca-file"}
_SECRETS = {"api-secret", "secret", "password"}


class Layer(NamedTuple):
    """One source of settings."""

    name: str
    values: Mapping[str, Any]
    directory: Path | None = None
    """The directory that relative paths start from; None: the current directory."""
    profiles: Mapping[str, Mapping[str, Any]] = {}
    """The settings of each profile."""


def user_file() -> Path:
    """Return the path of the user's settings."""
    import platformdirs

    return platformdirs.user_config_path("accucheck", appauthor=False) / FILE_NAME


def every_option(of: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every option of every command but the sandbox's, without its dashes, with the command's path."""
    for name in of:
        if name.startswith("-") or name == "sandbox":
            continue
        command = of[name]
        if command.default_command is not None:
            for argument in command.assemble_argument_collection(parse_docstring=False):
                if _is_option(argument):
                    yield argument.name.removeprefix("--"), (*path, name)
        yield from every_option(command, (*path, name))


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the word in ``words`` that ``word`` may be a misspelling of."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=0.7)), None)


def _is_option(argument: Argument) -> bool:
    return argument.parse and not argument.children and argument.name.startswith("--")


class Settings:
    """Fills in the options of a command: a ``config`` for cyclopts.

    Args:
        root: Returns the app with all commands.
        environment: Default: this process's.
        directory: Where the project's file is. Default: the current directory.
        user: The user's file. Default: ``user_file()``.
    """

    def __init__(
        self,
        root: Callable[[], App],
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        user: Path | None = None,
    ) -> None:
        self._root = root
        self._environment = os.environ if environment is None else environment
        self._directory = directory
        self._user = user

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        options = [argument for argument in arguments if _is_option(argument)]
        known = {argument.name.removeprefix("--") for argument in options}
        self._refuse_unknown(known)
        chosen = next(
            (each.tokens[0].value for each in options if each.name == "--profile" and each.tokens), None
        )
        layers = self.layers(chosen)
        for argument in options:
            if not argument.tokens:
                self._fill(argument, layers)

    def _fill(self, argument: Argument, layers: list[Layer]) -> None:
        found = self.find(argument.name.removeprefix("--"), layers)
        if found is None:
            return
        layer, value = found
        keyword = variable(argument.name) if layer.directory is None else argument.name.removeprefix("--")
        for place, each in enumerate(value if isinstance(value, list) else [value]):
            text = str(each).lower() if isinstance(each, bool) else str(each)
            argument.append(Token(keyword=keyword, value=text, source=layer.name, index=place))

    def find(self, option: str, layers: list[Layer]) -> tuple[Layer, Any] | None:
        """Return the value of ``option`` and the layer that has it, or None."""
        for layer in layers:
            if option not in layer.values:
                continue
            weaker = layer.directory is not None and not layer.name.startswith("--profile")
            if option in ("secret-file", "secret-command") and weaker and self.secret_in_environment:
                return None  # ACCUCHECK_API_SECRET is the stronger source
            value = layer.values[option]
            if (
                option in _PATHS
                and layer.directory is not None
                and value != "none"
                and "://" not in str(value)
            ):
                paths = value if isinstance(value, list) else [value]
                joined = [str(layer.directory / Path(str(each)).expanduser()) for each in paths]
                value = joined if isinstance(value, list) else joined[0]
            return layer, value
        return None

    @property
    def secret_in_environment(self) -> bool:
        """Whether ACCUCHECK_API_SECRET is set."""
        return bool(self._environment.get("ACCUCHECK_API_SECRET", "").strip())

    def layers(self, profile: str | None = None) -> list[Layer]:
        """Return the sources, strongest first. ``profile`` is the one named on the command line."""
        environment = Layer(
            "environment",
            {
                name.removeprefix(PREFIX).lower().replace("_", "-"): value
                for name, value in self._environment.items()
                if name.startswith(PREFIX) and value
            },
        )
        chosen = profile or environment.values.get("profile")
        if chosen is None:
            return [environment, *self.files]
        source = "--profile" if profile else "profile"
        tables = [
            Layer(f"{source} {chosen} in {each.name}", table, each.directory)
            for each in self.files
            if (table := each.profiles.get(chosen)) is not None
        ]
        if not tables:
            names = sorted({name for each in self.files for name in each.profiles})
            there = (
                f"; the profiles are {', '.join(names)}"
                if names
                else f": no {FILE_NAME} has a [profile.…] table"
            )
            raise ConfigurationError(f"there is no profile {chosen!r}{there}")
        return [*tables, environment, *self.files] if profile else [environment, *tables, *self.files]

    @cached_property
    def files(self) -> list[Layer]:
        """The settings files that exist: the project's, then the user's."""
        project = (self._directory or Path.cwd()) / FILE_NAME
        user = self._user or user_file()
        found = [_read(project, FILE_NAME, of_user=False)] if project.is_file() else []
        if user.is_file() and not (found and user.samefile(project)):
            found.append(_read(user, str(user), of_user=True))
        return found

    def _refuse_unknown(self, known: set[str]) -> None:
        """Raise ConfigurationError for a variable or key that is not an option of any command.

        ``known`` are the options of the current command; the other commands are imported only if needed.
        """
        variables = {
            name
            for name, value in self._environment.items()
            if name.startswith(PREFIX) and value and not name.startswith(_OTHERS) and name not in _NOT_OPTIONS
        }
        keys = [
            (key, layer)
            for layer in self.files
            for table in (layer.values, *layer.profiles.values())
            for key in table
        ]
        known_variables = {variable(option) for option in known}
        if variables <= known_variables and all(key in known for key, _ in keys):
            return
        known = {option for option, _ in every_option(self._root())} | known
        known_variables = {variable(option) for option in known} | _NOT_OPTIONS
        for name in sorted(variables - known_variables):
            raise ConfigurationError(_unknown(f"the variable {name}", closest(name, known_variables)))
        for key, layer in keys:
            if key not in known:
                raise ConfigurationError(
                    _unknown(f"the setting {key!r} in {layer.name}", closest(key, known))
                )


def variable(option: str) -> str:
    """Return the name of the environment variable for an option."""
    return PREFIX + option.removeprefix("--").upper().replace("-", "_")


def _unknown(what: str, suggestion: str | None) -> str:
    return f"{what} is unknown; " + (f"did you mean {suggestion}?" if suggestion else "see accucheck --help")


def _read(path: Path, name: str, *, of_user: bool) -> Layer:
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    profiles = content.pop("profile", {})
    if not isinstance(profiles, dict):
        raise ConfigurationError(
            f"{name}: profile is not a setting; choose one with --profile or ACCUCHECK_PROFILE"
        )
    return Layer(
        name,
        _checked(content, name, of_user=of_user),
        path.resolve().parent,
        {
            each: _checked(table, f"{name} [profile.{each}]", of_user=of_user)
            for each, table in profiles.items()
        },
    )


def _checked(table: Any, name: str, *, of_user: bool) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{name} is not a table of settings")
    values = {key.replace("_", "-"): value for key, value in table.items()}
    for key, value in values.items():
        if key in _SECRETS:
            raise ConfigurationError(
                f"{name} holds a secret ({key}); remove it and give secret_file or secret_command instead"
            )
        if key in _USER_ONLY and not of_user:
            raise ConfigurationError(
                f"{name} may not set {key}, because anyone could have written that file; put it in {user_file()}"
            )
        if isinstance(value, dict) or (
            isinstance(value, list) and any(isinstance(each, dict) for each in value)
        ):
            raise ConfigurationError(f"{name} has a table {key!r}; only [profile.NAME] tables are allowed")
    return values


app = App(name="config", help_epilogue="", default_parameter=Parameter(negative=""))


@app.command
def show(*, profile: str | None = None, json: bool = False, talk: Talk = Talk()) -> ExitCode:
    """Show every setting that is not a default, and where it comes from.

    $ accucheck config show
    $ accucheck config show --profile cliente-a --json

    The first source that has a setting wins: the command line, --profile, environment variables,
    ./accucheck.toml, your own accucheck.toml.

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
