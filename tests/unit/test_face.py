"""The public API: what is exported, what is documented, and what importing it costs."""

from __future__ import annotations

import ast
import builtins
import importlib.metadata
import inspect
import re
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import accucheck
from accucheck import _errors

DOCUMENTED = {
    "Client",
    "ClientOptions",
    "Stream",
    "Check",
    "Checked",
    "Failed",
    "Outcome",
    "Stats",
    "Policy",
    "Prices",
    "Money",
    "Timeouts",
    "Ledger",
    "normalize",
    # without await
    "SyncClient",
    "SyncStream",
    "check_sync",
    # extension points
    "Gate",
    "AdaptiveGate",
    "UnlimitedGate",
    "Store",
    "MemoryStore",
    # types in their signatures
    "BodyStyle",
    "CallKind",
    "Claims",
    "Endpoint",
    "EndpointChoice",
    "FreshWithin",
    "JobCalls",
    "LedgerInfo",
    "LedgerLike",
    "NumberProblem",
    "Numeric",
    "OnEvent",
    "Query",
    "Rate",
    "Settlement",
    # events
    "CallEnded",
    "CircuitChanged",
    "Event",
    "FastTransport",
    "Key",
    "RunFinished",
    "RunStarted",
    "Settled",
    "StreamOptions",
    *_errors.__all__,
}

TENACITYS = {"StopBaseT", "WaitBaseT"}

NOT_IMPORTED = (
    "httpx",
    "aiolimiter",
    "cyclopts",
    "rich",
    "uvloop",
    "httptools",
    "starlette",
    "uvicorn",
    "pyarrow",
    "python_calamine",
    "xlsxwriter",
    "zstandard",
    "redis",
    "ray",
    "accucheck.cli",
    "accucheck.files",
    "accucheck.sandbox",
)


def imported_names() -> set[str]:
    """The public names that the package's source imports."""
    tree = ast.parse(Path(accucheck.__file__).read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if not (alias.asname or alias.name).startswith("_")
    }


def test_the_exported_names_are_the_documented_ones() -> None:
    assert set(accucheck.__all__) == DOCUMENTED


def test_the_imported_names_are_the_exported_ones() -> None:
    assert imported_names() == set(accucheck.__all__)


@pytest.mark.parametrize("name", accucheck._ELSEWHERE)
def test_a_name_that_is_elsewhere_is_an_error_that_says_where(name: str) -> None:
    where = accucheck._ELSEWHERE[name]
    with pytest.raises(AttributeError, match=rf"use accucheck\.{re.escape(where)}$"):
        getattr(accucheck, name)
    module, _, found = where.rpartition(".")
    target = accucheck.Client if module == "Client()" else importlib.import_module(f"accucheck.{module}")
    assert found in dir(target)


def test_the_help_of_the_package_begins_with_a_screen_of_names_that_exist() -> None:
    shown = inspect.getdoc(accucheck) or ""
    assert len(shown.splitlines()) < 40
    for name in re.findall(r"^    ([A-Z]\w+)", shown.partition("need:")[2], re.MULTILINE):
        assert name in accucheck.__all__
    for module, name in re.findall(r"^    (accucheck\.\w+) +(\w+)", shown, re.MULTILINE):
        assert name in dir(importlib.import_module(module))


def test_defaults_are_shown_as_values() -> None:
    """The page of the API prints a default as it is written, and a private name says nothing there."""
    shown = []
    for name in accucheck.__all__:
        kind = getattr(accucheck, name)
        if inspect.isclass(kind) and kind.__module__.startswith("accucheck"):
            tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
            for function in ast.walk(tree):
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                if function.name == "__init__" or not function.name.startswith("_"):
                    defaults = [*function.args.defaults, *filter(None, function.args.kw_defaults)]
                    names = [default.id for default in defaults if isinstance(default, ast.Name)]
                    shown += [f"{name}.{function.name}: {default}" for default in names]
    assert shown == []


def test_httpx_is_imported_only_for_the_transport() -> None:
    assert python("import sys, accucheck; print('httpx' in sys.modules)").strip() == "False"
    assert python("import sys, accucheck; print(accucheck.FastTransport.__name__)").strip() == "FastTransport"
    with pytest.raises(AttributeError, match="no attribute 'SlowTransport'"):
        accucheck.SlowTransport  # noqa: B018


def test_the_exported_names_are_sorted_unique_and_defined() -> None:
    assert accucheck.__all__ == sorted(set(accucheck.__all__))
    assert all(hasattr(accucheck, name) for name in accucheck.__all__)


def test_every_exported_class_and_function_says_what_it_is() -> None:
    for name in accucheck.__all__:
        thing = getattr(accucheck, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, name
            assert not thing.__doc__.startswith(name + "("), f"{name} has a generated docstring"


def test_every_public_method_of_the_client_and_the_stream_says_what_it_does() -> None:
    for kind in (accucheck.Client, accucheck.Stream):
        for name, member in inspect.getmembers(
            kind, lambda m: inspect.isfunction(m) or isinstance(m, property)
        ):
            if not name.startswith("_"):
                assert member.__doc__, f"{kind.__name__}.{name}"


def annotations_of(thing: Any) -> Iterator[str]:
    """The annotations of a function, or of a class's public methods and fields, as written."""
    functions = [thing] if inspect.isfunction(thing) else []
    if inspect.isclass(thing):
        # Clients create streams, and httpx calls transports, so users never write the types of their arguments.
        made_by_users = thing not in (accucheck.Stream, accucheck.SyncStream, accucheck.FastTransport)
        for name, member in vars(thing).items():
            if made_by_users and (not name.startswith("_") or name == "__init__"):
                function = member.fget if isinstance(member, property) else member
                functions += [function] if inspect.isfunction(function) else []
        fields = vars(thing).get("__annotations__", {})
        yield from (text for name, text in fields.items() if not name.startswith("_"))
    for function in functions:
        yield from function.__annotations__.values()


def test_types_in_public_signatures_are_exported() -> None:
    """Users annotate with the same names: ``rate: accucheck.Rate``."""
    private = set()
    for exported in accucheck.__all__:
        thing = getattr(accucheck, exported)
        names = {
            node.id
            for text in annotations_of(thing)
            if isinstance(text, str)
            for node in ast.walk(ast.parse(text, mode="eval"))
            if isinstance(node, ast.Name)
        }
        known = vars(sys.modules[thing.__module__]) if names else {}
        for name in names - set(accucheck.__all__) - set(dir(builtins)) - set(typing.__all__) - TENACITYS:
            value = known.get(name)
            where = getattr(value, "__module__", None)
            if isinstance(value, typing.TypeVar) or inspect.ismodule(value):
                continue
            if (where or "").startswith("accucheck") or where in ("typing", "types"):
                private.add(f"{exported}: {name}")
    assert not private


def test_the_version_is_the_packages() -> None:
    assert accucheck.__version__ == importlib.metadata.version("accucheck")


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(accucheck.__file__).parent / "py.typed").exists()


def python(code: str) -> str:
    """Run code in a fresh interpreter that turns warnings into errors; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def modules_after_import() -> set[str]:
    """The modules that a fresh interpreter imports for accucheck."""
    return set(
        python(
            "import sys; before = set(sys.modules); import accucheck; print(*(set(sys.modules) - before))"
        ).split()
    )


@pytest.mark.parametrize("name", NOT_IMPORTED)
def test_importing_accucheck_does_not_import(name: str, modules_after_import: set[str]) -> None:
    assert "accucheck" in modules_after_import
    assert not {module for module in modules_after_import if module == name or module.startswith(name + ".")}


def test_accucheck_can_be_imported_without_extras() -> None:
    absent = [name for name in NOT_IMPORTED if not name.startswith("accucheck")]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import accucheck; accucheck.Client"
    assert python(code) == ""


def test_the_sandbox_imports_nothing_of_the_client() -> None:
    """Checks the source, because importing any module of a package imports the package first."""
    sandbox = Path(accucheck.__file__).parent / "sandbox"
    sources = sorted(sandbox.glob("*.py"))
    assert sources
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module or ''}"] if node.level == 0 else ["accucheck"] * (node.level > 1)
            for name in names:
                assert name.split(".")[0] != "accucheck" or name.startswith("accucheck.sandbox"), (
                    source,
                    name,
                )
