"""Every code block of the documentation and of docstrings runs, against the sandbox.

On each page, in order: a block with a ``title`` is written to that file; ``python`` blocks share one namespace and
may use ``await``; ``sh`` blocks run in bash, which stops at the first error. ``<!-- notest -->`` in the line before
leaves a block out.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import os
import re
import runpy
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import tomllib
import warnings
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import accucheck
import accucheck.otel
from accucheck.testing import SandboxThread

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("docs/**/*.md"), README])
BLOCK = re.compile(
    r'^(?: *(<!-- notest -->)\n)?( *)```(\w+)(?: +title="([^"]+)")?\n(.*?)^\2```$', re.DOTALL | re.MULTILINE
)
CODE = ("python", "sh", "csv", "ini", "toml")
GIVEN = {"README.md": {"leads": [{"name": "Ana", "phone": "987654321"}, {"name": "Jorge", "phone": "1"}]}}
NEEDS = {
    "airflow.md": ("airflow",),
    "celery.md": ("celery", "taskiq"),
    "dask.md": ("dask.dataframe",),
    "kafka.md": ("confluent_kafka",),
    "ray.md": ("ray",),
    "spark.md": ("pyspark",),
}
"""Modules without which a page is skipped. CI installs those of the extra ``dev``, which leaves out Airflow, and Spark
with its Java."""
EXAMPLES: dict[str, str] = runpy.run_path(str(ROOT / ".ci" / "examples.py"))["docstrings"]()
"""The code in docstrings, by where it is."""
NOT_RUN = {
    "README.md": ("sh",)
}  # the installation, which CI tests separately, and a list that the reader has


def blocks(page: Path) -> list[tuple[int, str, str, str]]:
    text = page.read_text("utf-8")
    return [
        (text.count("\n", 0, match.start()) + 1, match[3], match[4] or "", textwrap.dedent(match[5]))
        for match in BLOCK.finditer(text)
        if not match[1]
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # a page may import a file that it wrote
    (tmp_path / "leads.csv").write_text("name,phone\nAna,987654321\nRosa,912345678\n")  # the reader's list
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # the account's own ledger
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(page: Path, folder: Path, accucheck_sandbox: SandboxThread) -> None:
    name = str(page.relative_to(ROOT))
    for module in NEEDS.get(page.name, ()):
        warnings.simplefilter("default")  # these packages emit deprecation warnings; pytest resets the filter
        pytest.importorskip(module)
    namespace: dict[str, Any] = {"__name__": "docs", **GIVEN.get(name, {})}
    for line, language, title, code in blocks(page):
        if language not in CODE or language in NOT_RUN.get(name, ()):
            continue
        where = f"{name}:{line}"
        if title:
            (folder / title).write_text(code, "utf-8")
        elif language == "python":
            _run_python(code, where, namespace)
        elif language == "sh":
            _run_shell(code, where, accucheck_sandbox.url)


@pytest.mark.parametrize("where", EXAMPLES)
@pytest.mark.usefixtures("accucheck_sandbox")
def test_every_example_of_a_docstring_runs(where: str, folder: Path) -> None:
    _run_python(EXAMPLES[where], where, {"__name__": "docs", "accucheck": accucheck})


def _run_python(code: str, where: str, namespace: dict[str, Any]) -> None:
    compiled = compile(code, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:

        async def run() -> None:
            await eval(compiled, namespace)

        asyncio.run(run())
    else:
        exec(compiled, namespace)


def _run_shell(code: str, where: str, url: str, limit: float = 300) -> None:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", code],
        env={**ours, "ACCUCHECK_BASE_URL": url, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that processes the block leaves behind can be ended, too
    )
    with process:
        try:
            output, errors = process.communicate(timeout=limit)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{where}\n{output}{errors}"


def test_the_telemetry_page_shows_what_its_example_prints(folder: Path) -> None:
    page = blocks(ROOT / "docs/how-to/telemetry.md")
    program = next(code for _, _, title, code in page if title == "telemetry.py")
    shown = next(code for _, language, _, code in page if language == "text")
    (folder / "telemetry.py").write_text(program, "utf-8")
    printed = subprocess.run(
        [sys.executable, "telemetry.py"], capture_output=True, text=True, check=True
    ).stdout
    value = re.compile(r"limit = \d+")  # as measured
    assert value.sub("", printed) == value.sub("", shown)
    names = re.findall(r"^\| ``([\w.]+)`` ", accucheck.otel.__doc__ or "", re.MULTILINE)
    assert [name for name in names if f"metric {name} = " not in shown] == []


def test_a_block_that_takes_too_long_leaves_nothing_running(folder: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        _run_shell("sleep 60 & echo $! > pid; sleep 60", "here", "", limit=1)
    with pytest.raises(ProcessLookupError):
        for _ in range(500):  # init takes a moment to reap it
            os.kill(int((folder / "pid").read_text()), 0)
            time.sleep(0.01)


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return runpy.run_path(str(ROOT / ".ci" / "docs.py"))["pages"]()  # type: ignore[no-any-return]


def test_every_command_and_option_is_on_the_page_of_the_command_line(generated: dict[str, str]) -> None:
    from accucheck.cli import _app
    from accucheck.cli._settings import every_option

    page = generated["reference/cli.md"]
    for option, path in every_option(_app.app):
        section = page.partition(f"## accucheck {' '.join(path)}\n")[2].partition("\n## ")[0]
        assert f"`--{option}" in section, (path, option)
    assert "`--queue-rate" in page.partition("## accucheck sandbox\n")[2]


def test_the_other_pages_come_from_the_code(generated: dict[str, str]) -> None:
    assert "| `OUT_OF_QUOTA` | 403 | the run ends |" in generated["reference/statuses.md"]
    assert "| 4 | the account's quota" in generated["reference/exit-codes.md"]
    assert "| `checked_at` |" in generated["reference/output.md"]
    assert "[Python API](reference/api/)" in generated["llms.txt"]
    assert "# Output columns" in generated["llms-full.txt"]


def test_the_generated_pages_of_the_repository_are_current(generated: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / ".ci" / "docs.py", tmp_path], check=True, cwd=tmp_path)
    ignored = ROOT.joinpath(".gitignore").read_text().split()
    stored = [name for name in generated if f"docs/{name}" not in ignored]
    assert len(stored) == 7
    for name in stored:
        page = (ROOT / "docs" / name).read_text("utf-8")
        assert page == (tmp_path / name).read_text("utf-8"), f"{name}: run python .ci/docs.py"


def test_a_page_whose_module_lacks_a_library_says_which(tmp_path: Path) -> None:
    (tmp_path / "pytest.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'pytest'\", name='pytest')\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "docs.py", tmp_path / "docs"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'pytest'\n")


def test_every_public_name_is_on_the_page_of_the_api(generated: dict[str, str]) -> None:
    page = generated["reference/api.md"]
    assert "accucheck.Client\n" in page
    assert [name for name in accucheck.__all__ if f"::: accucheck.{name}\n" not in page] == []


def test_every_public_name_has_an_example() -> None:
    code = "".join(EXAMPLES.values())
    assert [name for name in accucheck.__all__ if not re.search(rf"\baccucheck\.{name}\b", code)] == []
    classes = [vars(accucheck).get(name) for name in accucheck.__all__]
    documented = {where.rpartition(":")[2] for where in EXAMPLES}
    errors = set(accucheck._errors.__all__)  # most are in the example of their base
    assert [
        kind.__name__
        for kind in classes
        if inspect.isclass(kind) and kind.__name__ not in documented | errors | {"Claims"}
    ] == []


def test_every_error_is_in_the_table_of_http_codes() -> None:
    page = (ROOT / "docs/how-to/fastapi.md").read_text("utf-8")
    table = "".join(line for line in page.splitlines() if line.startswith("| `"))
    bases = {"AccucheckError", "CheckError", "RunEnded"}
    assert {name for name in accucheck._errors.__all__ if f"`{name}`" not in table} == bases


def test_no_page_installs_accucheck_from_a_registry() -> None:
    """It is not on PyPI, where the name is free to take: pages install the clone."""
    lines = [line for page in PAGES for line in page.read_text("utf-8").splitlines()]
    wrong = re.compile(r"\b(install|add|--with)\b.*[\s'\"`](accucheck)(\[|==|['\"`\s]|$)")
    assert [line for line in lines if wrong.search(line)] == []


def test_every_setting_is_on_the_page_of_the_configuration(generated: dict[str, str]) -> None:
    from accucheck.cli import _app
    from accucheck.cli._settings import every_option

    page = generated["reference/configuration.md"]
    for option, _ in every_option(_app.app):
        assert f"| `{option}` | `ACCUCHECK_{option.upper().replace('-', '_')}` |" in page


def test_the_example_of_the_configuration_is_valid(generated: dict[str, str], folder: Path) -> None:
    page = folder / "configuration.md"
    page.write_text(generated["reference/configuration.md"], "utf-8")
    (_, _, title, content), (_, _, _, command) = blocks(page)
    (folder / title).write_text(content, "utf-8")
    _run_shell(command, page.name, "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def site(generated: dict[str, str]) -> dict[str, str]:
    """Every page of the site by its path."""
    written = {
        str(path.relative_to(ROOT / "docs")): path.read_text("utf-8") for path in PAGES if path != README
    }
    return {path: text for path, text in {**written, **generated}.items() if path.endswith(".md")}


def test_every_page_is_in_the_navigation_and_in_the_index_for_language_models(
    site: dict[str, str], generated: dict[str, str]
) -> None:
    settings = (ROOT / "zensical.toml").read_text("utf-8")
    assert [path for path in site if f'"{path}"' not in settings] == []
    urls = [path.removesuffix(".md") + "/" for path in site if path != "index.md"]
    assert [url for url in [*urls, "index.html"] if f"]({url})" not in generated["llms.txt"]] == []
    whole = generated["llms-full.txt"]
    written = {path: text.replace("<!-- notest -->\n", "").strip() for path, text in site.items()}
    assert [path for path, text in written.items() if text not in whole and ":::" not in text] == []
    assert ":::" not in whole  # except for these directives
    assert "### check_sync" in whole


def test_the_tables_of_a_ledger_are_those_that_it_has(generated: dict[str, str], tmp_path: Path) -> None:
    from accucheck._store._file import create_ledger

    create_ledger(tmp_path / "answers.db")
    with closing(sqlite3.connect(tmp_path / "answers.db")) as ledger:
        names = ledger.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
        tables = {
            name: [column for _, column, *_ in ledger.execute(f"PRAGMA table_info({name})")]
            for (name,) in names.fetchall()
        }
    page = generated["reference/ledger-tables.md"]
    for table, columns in tables.items():
        section = page.partition(f"## {table}\n")[2].partition("\n## ")[0]
        assert [column for column in columns if f"| `{column}` | " not in section] == [], table


def test_every_link_leads_to_a_page_and_a_heading(site: dict[str, str]) -> None:
    broken = []
    for page, text in {**site, "../README.md": README.read_text("utf-8")}.items():
        for target, anchor in re.findall(
            r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        ):
            path = os.path.normpath(str(Path(page).parent / target)) if target else page
            if path not in site and not (ROOT / "docs" / path).exists():
                broken.append(f"{page}: {target}")
            elif anchor and path in site and anchor not in _anchors(site[path]):
                broken.append(f"{page}: {target}#{anchor}")
    assert broken == []


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", word) for word in words}  # like Python-Markdown


def test_the_map_has_every_module_in_the_order_of_the_import_rules() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = page.partition("## The map")[2].partition("\n## ")[0].splitlines()
    place = {
        name: row
        for row, line in enumerate(rows)
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)/?`", line.split("|")[1])
    }
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    rules = tools["importlinter"]["contracts"]
    layers = [[name.strip() for name in layer.split("|")] for layer in rules[0]["layers"]]
    assert place.keys() == {name for layer in layers for name in layer}
    for above, below in pairwise(layers):
        assert max(place[name] for name in above) <= min(place[name] for name in below), (above, below)
