from __future__ import annotations

import pytest

from accucheck import _errors
from accucheck.cli._exit import EXPLANATION, ExitCode, exit_code_of
from accucheck.files._origin import FileError, OutputError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (_errors.Unauthorized("x"), 3),
        (_errors.KeyExpired("x"), 3),
        (_errors.NoPermission("x"), 3),
        (_errors.NotFound("x"), 3),
        (_errors.UniformRefusals("x"), 3),
        (_errors.OutOfQuota("x"), 4),
        (_errors.BudgetExhausted("x"), 4),
        (_errors.LedgerError("x"), 5),
        (_errors.Outage("x"), 6),
        (_errors.ConfigurationError("x"), 2),
        (_errors.InvalidNumber("x"), 1),
        (_errors.TransportError("x"), 1),
        (FileError("x"), 2),
        (OutputError("x"), 5),
        (OSError(28, "No space left on device"), 5),
        (RuntimeError("x"), 70),
    ],
)
def test_every_ending_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


def test_every_exit_code_is_explained() -> None:
    assert set(EXPLANATION) == set(ExitCode)
