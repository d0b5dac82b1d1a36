"""The commands in one place, and what becomes of an error: one clear line and an exit code."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env

from accucheck._errors import ConfigurationError
from accucheck.cli._console import complain, say
from accucheck.cli._exit_codes import EXPLANATION, ExitCode
from accucheck.cli._interruption import Interrupted, Interruption
from accucheck.cli._options import HIDDEN_STREAM, STANDARD_STREAM

__all__ = ["app", "run"]

DESCRIPTION = """\
Check Peru phone numbers on WhatsApp through AccuAuth, one or a million: no answer lost, none bought twice.

Try it without an account: accucheck demo

Every option can be set in the environment too: --max-calls is ACCUCHECK_MAX_CALLS. The API secret is \
read from ACCUCHECK_API_SECRET or --secret-file, never from the command line, which other users of the \
machine can see."""

EPILOGUE = "Exit codes:\n" + "\n".join(f"{code.value:>3}  {words}" for code, words in EXPLANATION.items())


def _version() -> str:
    return importlib.metadata.version("accucheck")


app = App(
    name="accucheck",
    help=DESCRIPTION,
    help_epilogue=EPILOGUE,
    help_format="plaintext",
    version=_version,
    config=Env("ACCUCHECK_", command=False),
    default_parameter=Parameter(negative=""),
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
)


def _in_paragraphs(text: str) -> str:
    """Return ``text`` with each paragraph on one line, so that only the terminal wraps it."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


COMMANDS = {
    "check": (
        "_check:check",
        """Check one number or several, and show the answers.

        A table on a terminal; JSON lines with --json, or when the output goes to a file or another program.""",
    ),
    "bulk": (
        "_bulk:bulk",
        """Check a whole list: a file in, the same file with the answers out.

        Your own columns come back untouched, followed by whatsapp, status_update, business_user, avatar,
        signature, status, reason and request_id. Every input row is in the output, in order.

        Each answer is kept in a ledger (OUTPUT.ledger) before it counts: after a crash, Ctrl-C or an empty
        account, run the same command again. What is answered is not asked again.

        Ctrl-C stops: the calls under way are settled and the output is written. Once more leaves at once.""",
    ),
    "plan": (
        "_plan:plan",
        """Say what checking a list would take, without a single call. Needs no account.""",
    ),
    "demo": (
        "_demo:demo",
        """See it at work on made-up leads and a simulated AccuAuth; no account needed.

        Starts the sandbox with a rate limit that it keeps to itself, pending numbers and server errors,
        checks a messy list against it as bulk would, and compares every row of the output with the truth.""",
    ),
    "sandbox": (
        "_sandbox:app",
        """Run a simulated AccuAuth on this machine, to try things on.

        It answers the vendor's whole contract over real HTTP; its page at / shows live counts. Every answer
        is a function of the number and --seed. The credentials are sandbox and sandbox:

        ACCUCHECK_API_ID=sandbox ACCUCHECK_API_SECRET=sandbox accucheck check 987654321
        --base-url http://127.0.0.1:8000

        Its options are set in the environment as ACCUCHECK_SANDBOX_…: those of the client do not reach it.""",
    ),
    "ledger": ("_ledger_commands:app", "Look into a ledger, export it, or delete from it."),
}
for place, (name, (target, description)) in enumerate(COMMANDS.items()):
    # Named by path and imported when used, so that `accucheck check` does not load what `demo` needs.
    app.command(f"accucheck.cli.{target}", name=name, help=_in_paragraphs(description), sort_key=place)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every error ends here."""
    debug = False
    with Interruption() as interruption:
        try:
            words = [HIDDEN_STREAM if word == STANDARD_STREAM else word for word in arguments]
            run_command: Callable[..., object]
            run_command, bound, injected = app.parse_args(words)
            debug = _wants_debug(bound.arguments)
            # What the library logs for operators, a person is told in other words.
            logging.getLogger("accucheck").addHandler(logging.NullHandler())
            if debug:
                logging.basicConfig(
                    stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s"
                )
                logging.getLogger("accucheck").setLevel(logging.DEBUG)
            if "interruption" in injected:
                bound.arguments["interruption"] = interruption
            exit_code = run_command(*bound.args, **bound.kwargs)
            sys.stdout.flush()
            return int(exit_code) if isinstance(exit_code, int) else ExitCode.ALL_ANSWERED
        except CycloptsError as error:
            command = " ".join(["accucheck", *(error.command_chain or ())])
            say(str(error).replace(HIDDEN_STREAM, STANDARD_STREAM), hint=f"{command} --help")
            return ExitCode.USAGE
        except Interrupted as interrupted:
            say(str(interrupted), hint=interrupted.hint)
            return interruption.exit_code
        except BrokenPipeError:
            _drop_standard_output()
            return ExitCode.READER_GONE
        except Exception as error:  # noqa: BLE001 the last line of defence: a person gets one line, not a traceback
            if debug:
                traceback.print_exc()
            return complain(_without_wrapping(error))


def _wants_debug(arguments: dict[str, Any]) -> bool:
    talk = arguments.get("talk")
    return bool(getattr(talk, "debug", False))


def _without_wrapping(error: Exception) -> Exception:
    """Return what a command's own import raised, in place of "cannot import module": it says what to install."""
    cause = error.__cause__
    if isinstance(error, ImportError) and isinstance(cause, ImportError) and "pip install" in str(cause):
        return ConfigurationError(str(cause))
    return error


def _drop_standard_output() -> None:
    """Let the interpreter's last flush go nowhere: the reader (head, less) has seen enough and is gone."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
