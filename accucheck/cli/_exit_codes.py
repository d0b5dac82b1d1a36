"""What the exit code of a command means, for scripts that go on from there."""

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
    ExitCode.ALL_ANSWERED: "done; with check and bulk: every number was answered",
    ExitCode.SOME_NOT_ANSWERED: "some numbers have no answer (invalid, failed or not checked)",
    ExitCode.USAGE: "wrong usage: an option, the input file or a missing credential",
    ExitCode.NOT_ALLOWED: "the vendor refused the credentials, the permission, the endpoint or every number",
    ExitCode.USED_UP: "the account's quota or --max-calls is used up",
    ExitCode.STORAGE: "the ledger or the output could not be written or read",
    ExitCode.OUTAGE: "no call went through for --outage-deadline; the same command goes on",
    ExitCode.UNEXPECTED: "a mistake in accucheck itself (--debug shows where)",
    ExitCode.HUNG_UP: "the terminal went away; run the same command again to go on",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C); run the same command again to go on",
    ExitCode.READER_GONE: "the reader of standard output went away (as in: accucheck … | head)",
    ExitCode.TERMINATED: "terminated; run the same command again to go on",
}
"""One line each: printed by ``--help`` and held complete by a test."""

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
    # By its word: the files room takes a tenth of the time in which `check`, which has no file, starts.
    if isinstance(error, AccucheckError) and error.status == "OUTPUT_ERROR":
        return ExitCode.STORAGE
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, OSError):
        return ExitCode.STORAGE
    if isinstance(error, AccucheckError):
        return ExitCode.SOME_NOT_ANSWERED
    return ExitCode.UNEXPECTED
