"""All commands, and how errors and wrong usage end: with one clear line and an exit code."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.argument import ArgumentCollection

from accucheck._errors import ConfigurationError
from accucheck.cli._console import SayHandler, complain, finish_streams, prepare_streams, say
from accucheck.cli._exit import EXPLANATION, ExitCode, Interrupted, Interruption
from accucheck.cli._options import HIDDEN_STREAM, STANDARD_STREAM
from accucheck.cli._settings import Settings, closest, every_option

_MEANT = {
    "threads": "--workers",
    "concurrency": "--workers",
    "parallel": "--workers",
    "connections": "--workers",
    "qps": "--rate",
    "rps": "--rate",
    "speed": "--rate",
    "rate-limit": "--rate",
    "throttle": "--rate",
    "limit": "--max-calls",
    "budget": "--max-calls or --max-cost",
    "max-requests": "--max-calls",
    "out": "-o",
    "out-file": "-o",
    "outfile": "-o",
    "verbose": "--debug",
    "v": "--debug",
    "log": "--debug",
    "silent": "--quiet",
    "q": "--quiet",
    "timeout": "--read-timeout or --attempt-timeout",
    "retries": "--tries",
    "retry": "--tries or --retry-failed",
    "dry-run": "accucheck plan",
    "estimate": "accucheck plan",
    "cost": "--price",
    "key": "--api-id",
    "id": "--api-id",
    "user": "--api-id",
    "url": "--base-url",
    "host": "--base-url",
    "api-secret": "ACCUCHECK_API_SECRET or --secret-file",
    "secret": "ACCUCHECK_API_SECRET or --secret-file",
    "token": "ACCUCHECK_API_SECRET or --secret-file",
    "password": "ACCUCHECK_API_SECRET or --secret-file",
    "max-age": "--fresh-within",
    "ttl": "--fresh-within",
    "cache": "--ledger",
    "db": "--ledger",
    "database": "--ledger",
    "phone": "--column",
    "phone-column": "--column",
    "filter": "--where",
    "skip": "--exclude",
    "blacklist": "--exclude",
    "blocklist": "--exclude",
    "yes": "--only yes",
    "overwrite": "--force",
    "f": "--force",
    "c": "--column",
    "n": "--sample",
    "head": "--sample",
    "profile-name": "--profile",
}
"""Options that people try out of habit, and our names for them."""
_NOT_NEEDED = {"resume", "continue", "restart"}

_WANTED = {
    ("plan", "INPUT"): "name a list: accucheck plan leads.csv",
    ("report", "CHECKED"): "name a checked list: accucheck report checked.csv -o report.html",
    ("report", "--output"): "say where to write the report: accucheck report checked.csv -o report.html",
    ("diff", "OLD"): "name two checked lists: accucheck diff old.csv new.csv",
    ("diff", "NEW"): "name two checked lists: accucheck diff old.csv new.csv",
    ("ledger export", "--output"): "say where to write the results: accucheck ledger export -o answers.csv",
    ("ledger purge", "--older-than"): "say what to delete: accucheck ledger purge --older-than 180d",
    ("ledger forget", "NUMBERS"): "name the number: accucheck ledger forget 987654321",
}
"""What to say when this argument of this command is missing."""


def explain(error: CycloptsError, app: App) -> tuple[str, str]:
    """Return one sentence about ``error``, and a hint."""
    command = " ".join(error.command_chain or ())
    hint = f"accucheck {command} --help".replace("  ", " ")
    match error:
        case UnknownOptionError():
            return _unknown_option(error, command, app), hint
        case UnusedCliTokensError():
            extra = " ".join(error.unused_tokens or ())
            return f"unexpected argument: {extra}", hint
        case RepeatArgumentError():
            return f"{error.token.keyword} was given more than once", hint
        case MissingArgumentError():
            assert error.argument is not None
            name = error.argument.name
            if error.keyword or any(token.keyword for token in error.argument.tokens):
                return f"{error.keyword or name} needs a value", hint
            return _WANTED.get((command, name), f"{name} is missing"), hint
    message = str(error).rstrip(".")
    return message[:1].lower() + message[1:], hint


def _unknown_option(error: UnknownOptionError, command: str, app: App) -> str:
    given = (error.token.keyword or error.token.value).partition("=")[0]
    word = given.lstrip("-").lower().replace("_", "-")
    here = {name for each in error.argument_collection if each.parse for name in each.names}
    if word in _NOT_NEEDED:
        return f"{given} is not needed: run the same command again and it continues where it stopped"
    meant = _MEANT.get(word)
    if meant is not None and (not meant.startswith("-") or meant.split()[0] in here):
        return f"unknown option {given}; did you mean {meant}?"
    elsewhere = [" ".join(path) for option, path in every_option(app) if option == word]
    if elsewhere:
        *first, last = (f"accucheck {path}" for path in elsewhere)
        return f"{given} belongs to {', '.join(first)}{' and ' if first else ''}{last}"
    near = closest(given, here)
    return f"unknown option {given}" + (f"; did you mean {near}?" if near else "")


DESCRIPTION = """\
Check Peru phone numbers on WhatsApp through AccuAuth, one or a million. No answer is lost or bought twice.

$ accucheck demo                             try it without an account
$ accucheck check 987654321                  check one number
$ accucheck plan leads.xlsx                  estimate what a list would cost
$ accucheck bulk leads.xlsx -o checked.xlsx  check a list"""

ENVIRONMENT = """\
Environment:
  ACCUCHECK_API_ID, ACCUCHECK_API_SECRET   your credentials
  ACCUCHECK_MAX_CALLS, ...                 any option; this one is --max-calls
  ACCUCHECK_SANDBOX_SEED, ...              any option of accucheck sandbox

Settings: accucheck.toml in the current directory or your configuration directory; see accucheck config show.

The secret is never read from the command line, because other users of the machine can see that. Use the variable \
above, --secret-file, --secret-command or the prompt."""

EXIT_CODES = (
    "Exit codes:\n" + "\n".join(f"{code.value:>5}  {words}" for code, words in EXPLANATION.items()) + "\n"
)


WITH_EXIT_CODES = ("check", "bulk")
"""The commands that scripts call and whose help ends with the exit codes."""


def _version() -> str:
    return importlib.metadata.version("accucheck")


def _shown(default: object) -> str | None:
    """Return the default to show in help; nothing if there is nothing to say about it."""
    return None if default in (None, "", ()) or default is False else str(default)


def _fill_in(of: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    Settings(lambda: app)(of, commands, arguments)


class _Help:
    """Cyclopts' help, imported only when shown; each description is one paragraph, which only the terminal wraps."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        for entry in panel.entries:
            text: Any = getattr(entry.description, "primary_renderable", None)
            if hasattr(text, "plain"):
                text.plain = " ".join(text.plain.split())
        self.__getattr__("__call__")(console, options, panel)

    def __getattr__(self, name: str) -> Any:
        from cyclopts.help import DefaultFormatter

        return getattr(DefaultFormatter(), name)


app: App = App(
    name="accucheck",
    help=DESCRIPTION,
    help_epilogue=f"{ENVIRONMENT}\n\n{EXIT_CODES}",
    help_format="plaintext",
    help_formatter=_Help(),
    version=_version,
    config=_fill_in,
    default_parameter=Parameter(negative="", show_env_var=False, show_default=_shown),
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
)


def _in_paragraphs(text: str) -> str:
    """Return ``text`` with each paragraph on one line, so that only the terminal wraps it; examples stay apart."""
    return "\n\n".join(
        ("\n" if "$ " in paragraph else " ").join(line.strip() for line in paragraph.splitlines())
        for paragraph in text.split("\n\n")
    )


COMMANDS = {
    "check": (
        "_check:check",
        """Check one or more numbers and show the answers.

        $ accucheck check 987654321 "+51 912 345 678"
        $ accucheck check 987654321 --json

        Prints a table on a terminal; JSON lines with --json, or when the output goes to a file or another program.""",
    ),
    "bulk": (
        "_bulk:bulk",
        """Check a list: read a file and write it back with the answers.

        $ accucheck bulk leads.xlsx -o checked.xlsx
        $ accucheck bulk leads.csv -o checked.csv --sample 200
        $ accucheck bulk monday.csv tuesday.xlsx lists/ --output-dir checked

        Your own columns come back untouched, followed by whatsapp, status_update, business_user, avatar,
        signature, status, reason, request_id, number and checked_at. The output has every input row, in the same order.

        Answers are saved in a ledger as they arrive. After a crash, Ctrl-C or an empty account, run the same command
        again: it continues, and numbers already answered are not bought again.

        Ctrl-C stops the run: calls in flight finish and the output is written. Press it again to quit at once.""",
    ),
    "plan": (
        "_plan:plan",
        """Estimate what checking a list would cost. Makes no calls and needs no account.

        $ accucheck plan leads.xlsx --rate 50 --price 0.002
        $ accucheck plan leads.csv -o checked.csv""",
    ),
    "report": (
        "_report:report",
        """Write a report on a checked list as one HTML page to send or print.

        $ accucheck report checked.xlsx -o report.html
        $ accucheck report checked.csv -o report.html --by Ciudad --price 0.002 --language es

        Shows the share on WhatsApp by your own columns with confidence intervals, business accounts, and invalid
        rows by reason. The page loads nothing from the network and contains no phone numbers.""",
    ),
    "diff": (
        "_report:diff",
        """Compare two checked lists: who joined WhatsApp, who left, who is new.

        $ accucheck diff checked-october.csv checked-november.csv
        $ accucheck diff old.xlsx new.xlsx --json""",
    ),
    "demo": (
        "_sandbox:demo",
        """Try accucheck on made-up leads and a simulated AccuAuth. Needs no account.

        $ accucheck demo
        $ accucheck demo --rows 10000 --directory demo

        Starts the sandbox with an undisclosed rate limit, pending numbers and server errors, checks a messy list
        against it as bulk would, and compares every row of the output with the correct answer.""",
    ),
    "sandbox": (
        "_sandbox:app",
        """Run a simulated AccuAuth on this machine.

        $ accucheck sandbox --rate 100 --pending 0.1
        $ accucheck sandbox --quota 50 --port 0

        It implements AccuAuth's API over HTTP and shows live counts at /. Each answer depends only on the number and
        --seed. To use it, set ACCUCHECK_API_ID and ACCUCHECK_API_SECRET to sandbox and ACCUCHECK_BASE_URL to its
        address.

        Its options can be set in the environment as ACCUCHECK_SANDBOX_....""",
    ),
    "doctor": (
        "_doctor:doctor",
        """Check what a run needs: credentials, network, clock, ledger and disk. Makes no call unless you ask for one.

        $ accucheck doctor
        $ accucheck doctor --call 987654321""",
    ),
    "config": (
        "_settings:app",
        """Show the settings in effect and where each comes from.

        $ accucheck config show
        $ accucheck config show --profile cliente-a""",
    ),
    "serve": (
        "_serve:serve",
        """Serve AccuAuth's API to programs in any language, with rate limiting, polling and retries built in.

        $ accucheck serve --rate 50
        $ accucheck serve --host 0.0.0.0 --certificate cert.pem --private-key key.pem

        Callers send POST /check/whatsapp_advanced as they would to AccuAuth, with the server's own key, which you
        choose in ACCUCHECK_SERVE_API_ID and ACCUCHECK_SERVE_API_SECRET. GET /metrics serves Prometheus, /healthz
        load balancers, and /openapi.json API tools.""",
    ),
    "ledger": (
        "_ledger_commands:app",
        """Inspect, export, repair or purge a ledger.

        $ accucheck ledger info checked.csv.ledger
        $ accucheck ledger export checked.csv.ledger -o answers.csv""",
    ),
}
_ARGUMENTS = {"check": "NUMBER...", "bulk": "LISTS..."}
"""What the usage line names; cyclopts would write ARGS."""
for place, (name, (target, description)) in enumerate(COMMANDS.items()):
    # Named by path and imported when used, so that `accucheck check` does not load what `demo` needs.
    options = (
        {} if target.endswith(":app") else {"help_epilogue": EXIT_CODES if name in WITH_EXIT_CODES else ""}
    )
    if name in _ARGUMENTS:
        options["usage"] = f"Usage: accucheck {name} [OPTIONS] {_ARGUMENTS[name]}"
    app.command(
        f"accucheck.cli.{target}", name=name, help=_in_paragraphs(description), sort_key=place, **options
    )


app.register_install_completion_command(help="Install completion for bash, zsh or fish.", sort_key=100)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every error ends here."""
    prepare_streams()
    with Interruption() as interruption:
        return finish_streams(_run(arguments, interruption))


def _run(arguments: Sequence[str], interruption: Interruption) -> int:
    debug = False
    try:
        words = [HIDDEN_STREAM if word == STANDARD_STREAM else word for word in arguments]
        run_command: Callable[..., object]
        run_command, bound, injected = app.parse_args(words)
        debug = _wants_debug(bound.arguments)
        # The library logs for operators; the command line tells people the same in other words.
        logging.getLogger("accucheck").addHandler(logging.NullHandler())
        limits = logging.getLogger("accucheck.limits")
        limits.handlers[:] = [SayHandler(logging.WARNING)]
        if debug:
            logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
            logging.getLogger("accucheck").setLevel(logging.DEBUG)
        if "interruption" in injected:
            bound.arguments["interruption"] = interruption
        exit_code = run_command(*bound.args, **bound.kwargs)
        return int(exit_code) if isinstance(exit_code, int) else ExitCode.ALL_ANSWERED
    except CycloptsError as error:
        message, hint = explain(error, app)
        say(message.replace(HIDDEN_STREAM, STANDARD_STREAM), hint=hint)
        return ExitCode.USAGE
    except Interrupted as interrupted:
        say(str(interrupted), hint=interrupted.hint)
        return interruption.exit_code
    except BrokenPipeError:
        return ExitCode.READER_GONE
    except Exception as error:  # noqa: BLE001 the last line of defense: a person gets one line, not a traceback
        if debug:
            traceback.print_exc()
        return complain(_without_wrapping(error))


def _wants_debug(arguments: dict[str, Any]) -> bool:
    talk = arguments.get("talk") or getattr(arguments.get("options"), "talk", None)  # bulk's is in its Job
    return bool(getattr(talk, "debug", False))


def _without_wrapping(error: Exception) -> Exception:
    """Return the original import error, which says what to install, instead of "cannot import module"."""
    cause = error.__cause__
    if isinstance(error, ImportError) and isinstance(cause, ImportError) and "pip install" in str(cause):
        return ConfigurationError(str(cause))
    return error
