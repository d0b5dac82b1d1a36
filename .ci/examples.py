"""Check the types of the Python blocks of the documentation and of docstrings with mypy and pyright, strictly.

``python .ci/examples.py FOLDER`` writes the blocks to a new folder and checks them there.

A block with a title becomes a module of that name. The others on a page share one namespace and may await, so they
become one async function. So do those of a docstring.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r'^(?: *(<!-- notest -->)\n)?( *)```python(?: +title="([^"]+)")?\n(.*?)^\2```$', re.DOTALL | re.MULTILINE
)
GIVEN = {"README.md": 'leads = [{"name": "Ana", "phone": "987654321"}]\n'}
STUBS = ROOT / "tests" / "typing" / "stubs"
"""Of Airflow and Spark, which are too large to install for one page each."""


def docstrings() -> dict[str, str]:
    """Return the examples in accucheck's docstrings by where they are; they can rely on ``import accucheck``."""
    found = {}
    for path in sorted(ROOT.glob("accucheck/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                blocks = BLOCK.findall(inspect.cleandoc(ast.get_docstring(node) or ""))
                if blocks:
                    name = getattr(node, "name", "")
                    code = "".join(textwrap.dedent(code) for _, _, _, code in blocks)
                    found[f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}:{name}"] = code
    return found


def write(folder: Path) -> None:
    """Write all pages below ``folder``."""
    folder.mkdir(parents=True)
    for where, code in docstrings().items():
        module = re.sub(r"\W", "_", where)
        (folder / f"{module}.py").write_text(_in_a_function(f"import accucheck\n{code}"), "utf-8")
    for page in sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]):
        name = str(page.relative_to(ROOT))
        module = re.sub(r"\W", "_", name.removesuffix(".md"))
        body = GIVEN.get(name, "")
        for left_out, _, title, code in BLOCK.findall(page.read_text("utf-8")):
            if left_out:
                continue
            code = textwrap.dedent(code)
            if title:
                path = folder / title
                if path.exists():  # on another page, too
                    path = folder / f"{module}_{title}"
                path.write_text(code, "utf-8")
            else:
                body += code
        if body:
            (folder / f"{module}.py").write_text(_in_a_function(body), "utf-8")


def _in_a_function(code: str) -> str:
    """Return the blocks of a page with their imports on top and the rest in a coroutine function."""
    lines = code.splitlines()
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    top = [line for node in imports for line in lines[node.lineno - 1 : node.end_lineno]]
    taken = {number for node in imports for number in range(node.lineno, (node.end_lineno or 0) + 1)}
    rest = [line for number, line in enumerate(lines, 1) if number not in taken]
    return "\n".join(
        [
            *dict.fromkeys(top),
            "",
            "",
            "async def page() -> None:",
            textwrap.indent("\n".join(rest), "    "),
            "",
        ]
    )


MYPY = f"""
[mypy]
strict = true
mypy_path = {STUBS}
[mypy-dask.*,django.*,pandas.*,pyarrow.*,ray.*]
ignore_missing_imports = true
[mypy-docs_how_to_dask]
disallow_untyped_calls = false
"""
PYRIGHT = {
    "typeCheckingMode": "strict",
    "stubPath": str(STUBS),
    # What other libraries leave untyped: Dask, Django, Ray, pandas, PyArrow, and Starlette's test client.
    **dict.fromkeys(
        (
            "reportMissingTypeStubs",
            "reportMissingModuleSource",
            "reportUnknownParameterType",
            "reportUnknownMemberType",
            "reportUnknownVariableType",
            "reportUnknownArgumentType",
        ),
        False,
    ),
    # Notebook cells end with an expression to show, and pages define names that they do not use.
    **dict.fromkeys(("reportUnusedExpression", "reportUnusedVariable"), False),
}


def check(folder: Path) -> int:
    """Return 0 if neither checker reports an error."""
    (folder / "mypy.ini").write_text(MYPY, "utf-8")
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), "utf-8")
    commands = (["mypy", "--config-file", "mypy.ini", "."], ["pyright", "--pythonpath", sys.executable])
    return max(
        subprocess.run([sys.executable, "-m", *command], cwd=folder).returncode for command in commands
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    sys.exit(check(Path(sys.argv[1])))
