"""Wrong usage in words: what was wrong with the arguments, and what to write instead."""

from __future__ import annotations

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from accucheck.cli._settings import closest, every_option

__all__ = ["explain"]

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
"""Options that people try out of habit, and ours for the same purpose."""
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
    return str(error), hint


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
