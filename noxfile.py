"""Development sessions: ``nox`` runs lint, types, import rules and the tests on every installed Python from 3.11 on."""

from __future__ import annotations

from pathlib import Path

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


@nox.session(python=PYTHONS)
def lowest(session: nox.Session) -> None:
    """Run the core tests and the demo with the lowest versions that pyproject.toml allows."""
    extras = ["cli", "fast", "frames", "otel", "sandbox", "serve", "testing", "xlsx", "zstd"]
    constraints = Path(session.create_tmp()) / "lowest.txt"
    with constraints.open("w") as file:
        session.run("python", ".ci/lowest.py", *extras, stdout=file)
    session.install("-c", str(constraints), "-e", f".[{','.join(extras)}]", "hypothesis")
    session.run("accucheck", "demo", "--rows", "60")
    names = ("attempt", "checks", "decide", "stream", "cli_app")
    tests = session.posargs or [f"tests/unit/test_{name}.py" for name in names]
    # Without pyproject.toml's settings, which need newer plugins.
    session.run("python", "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", *tests)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure combined test coverage, including subprocesses; fails below the threshold."""
    session.install("-e", ".[dev]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "2", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session
def explore(session: nox.Session) -> None:
    """Run the property tests on many new examples."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "pytest", "--hypothesis-profile=explore", "tests/unit", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and spelling."""
    session.install("ruff>=0.8", "codespell>=2.4")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly: package, tests and benchmarks; the public API and the examples with pyright too."""
    session.install("-e", ".[dev]")
    session.run("mypy")
    session.run("pyright")
    session.run("python", ".ci/examples.py", str(Path(session.create_tmp()) / "examples"))


@nox.session
def layers(session: nox.Session) -> None:
    """Check the import rules."""
    session.install("-e", ".[all]", "import-linter>=2.1")
    session.run("lint-imports", "--no-cache")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/: nox -s docs -- serve."""
    session.install("-e", ".[all,docs,testing]")
    session.run("python", ".ci/docs.py")
    session.run("zensical", *(session.posargs or ["build", "--clean", "--strict"]))
    session.log("The site is in site/; nox -s docs -- serve shows it in a browser")


@nox.session
def bench(session: nox.Session) -> None:
    """Run benchmarks: nox -s bench -- SUITE (no argument lists the suites, and runs the quickest)."""
    session.install("-e", ".[all]", "-r", "benchmarks/requirements.txt")
    if not session.posargs:
        session.run("python", "-m", "benchmarks", "--help")
    session.run("python", "-m", "benchmarks", *(session.posargs or ["smoke"]))


@nox.session
def demo(session: nox.Session) -> None:
    """Check a sample list against the sandbox."""
    session.install("-e", ".[cli,sandbox]")
    session.run("accucheck", "demo", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist and check them, without publishing."""
    session.install("build", "check-wheel-contents", "twine")
    session.run("python", "-m", "build", "--outdir", session.create_tmp())
    files = [str(path) for path in Path(session.create_tmp()).glob("accucheck-*")]
    session.run("twine", "check", "--strict", *files)
    session.run("check-wheel-contents", *[name for name in files if name.endswith(".whl")])


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Install the built wheel, not the clone, and run the demo with it."""
    session.install("build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", folder)
    built = max(Path(folder).glob("accucheck-*.whl"))
    session.install(f"accucheck[cli,sandbox,xlsx] @ {built.resolve().as_uri()}")
    session.chdir(folder)  # away from the clone
    session.run("accucheck", "--version")
    session.run("accucheck", "demo", "--rows", "60")
