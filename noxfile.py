"""Development sessions: ``nox`` runs lint, types, layers and the tests on every installed Python from 3.11 on."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "layers", "tests"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests: nox -s tests -- -k phone."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff>=0.8")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly; the public API as its users write it (tests/typing) by two checkers."""
    session.install("-e", ".[test]", "mypy>=1.13", "pyright[nodejs]>=1.1.390")
    session.run("mypy")
    session.run("pyright")


@nox.session
def layers(session: nox.Session) -> None:
    """Check who imports whom."""
    session.install("-e", ".[all]", "import-linter>=2.1")
    session.run("lint-imports", "--no-cache")


@nox.session
def bench(session: nox.Session) -> None:
    """Run a benchmark suite: nox -s bench -- speed | rate | layers | memory | smoke."""
    session.install("-e", ".[fast,sandbox,xlsx,parquet]", "-r", "benchmarks/requirements.txt")
    session.run("python", "-m", "benchmarks", *(session.posargs or ["smoke"]))


@nox.session
def demo(session: nox.Session) -> None:
    """Check a sample list against the sandbox."""
    session.install("-e", ".[cli,sandbox]")
    session.run("accucheck", "demo", *session.posargs)
