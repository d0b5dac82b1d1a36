"""The exit codes of every command, for the scripts that call it."""

from __future__ import annotations

from enum import IntEnum

from accucheck._errors import (
    AccucheckError,
    BudgetExhausted,
    ConfigurationError,
    KeyExpired,
    LedgerError,
    NoPermission,
    NotFound,
    Outage,
    OutOfQuota,
    Unauthorized,
    UniformRefusals,
)

__all__ = ["EXPLANATION", "ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """The exit codes of every command."""

    ALL_ANSWERED = 0
    SOME_NOT_ANSWERED = 1
    USAGE = 2
    NOT_ALLOWED = 3
    USED_UP = 4
    STORAGE = 5
    OUTAGE = 6
    UNEXPECTED = 70
    HUNG_UP = 129
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


EXPLANATION = {
    ExitCode.ALL_ANSWERED: "done; check and bulk: every number was answered",
    ExitCode.SOME_NOT_ANSWERED: "some rows have no answer: invalid, failed or not checked",
    ExitCode.USAGE: "an invalid option, an unreadable input or missing credentials",
    ExitCode.NOT_ALLOWED: "AccuAuth refused the credentials, the endpoint or every number",
    ExitCode.USED_UP: "the account's quota, --max-calls or --max-cost is used up",
    ExitCode.STORAGE: "the ledger or the output could not be read or written",
    ExitCode.OUTAGE: "AccuAuth was unreachable for longer than --outage-deadline",
    ExitCode.UNEXPECTED: "internal error (please report it; --debug shows where)",
    ExitCode.HUNG_UP: "the terminal was closed",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
    ExitCode.READER_GONE: "the reader of standard output closed the pipe (accucheck … | head)",
    ExitCode.TERMINATED: "terminated",
}
"""One line for each code, shown by ``--help``. A test checks that none is missing."""

_NOT_ALLOWED = (Unauthorized, KeyExpired, NoPermission, NotFound, UniformRefusals)
_USED_UP = (OutOfQuota, BudgetExhausted)


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for the error that ended a command."""
    if isinstance(error, _NOT_ALLOWED):
        return ExitCode.NOT_ALLOWED
    if isinstance(error, _USED_UP):
        return ExitCode.USED_UP
    if isinstance(error, LedgerError):
        return ExitCode.STORAGE
    if isinstance(error, Outage):
        return ExitCode.OUTAGE
    # By its status, not its class: importing `files` would slow down `check`, which reads no file.
    if isinstance(error, AccucheckError) and error.status == "OUTPUT_ERROR":
        return ExitCode.STORAGE
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, OSError):
        return ExitCode.STORAGE
    if isinstance(error, AccucheckError):
        return ExitCode.SOME_NOT_ANSWERED
    return ExitCode.UNEXPECTED
