"""Write the pages that come from the code: the command line, statuses, exit codes, columns, sandbox, llms.txt.

``python .ci/docs.py [FOLDER]`` writes them into docs/. Pages that can be read as they are are committed, so that
links to them work in the repository. Git ignores the rest: the Python API, which only the site's build fills in, and
llms.txt.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def pages() -> dict[str, str]:
    """Return every generated page by its path below docs/."""
    made = {
        "reference/api.md": _api(),
        "reference/cli.md": _command_line(),
        "reference/statuses.md": _statuses(),
        "reference/configuration.md": _configuration(),
        "reference/exit-codes.md": _exit_codes(),
        "reference/output.md": _columns(),
        "reference/ledger-tables.md": _ledger_tables(),
        "reference/sandbox.md": _sandbox(),
    }
    written = {str(path.relative_to(DOCS)): path.read_text("utf-8") for path in DOCS.glob("**/*.md")}
    return made | _for_language_models({**written, **made})


SECTIONS = {
    "": ["Client", "Stream", "SyncClient", "SyncStream", "check_sync", "normalize"],
    "Answers and outcomes": ["Check", "Checked", "Failed", "Outcome", "Stats"],
    "Settings": ["Policy", "Timeouts", "Rate"],
    "Extension points": [
        "Gate",
        "AdaptiveGate",
        "UnlimitedGate",
        "Store",
        "MemoryStore",
        "SQLiteStore",
        "FastTransport",
    ],
    "Events": ["Event", "CallEnded", "Settled", "CircuitChanged", "RunStarted", "RunFinished"],
    "Ledger": ["Ledger", "LedgerInfo"],
}
"""Public names by section of their page. Errors and names not listed here have their own sections."""


def _api() -> str:
    import accucheck

    public = [name for name in accucheck.__all__ if not name.startswith("__")]
    errors = [name for name in accucheck._errors.__all__ if name in public]
    named = {name for names in SECTIONS.values() for name in names}
    sections = {
        **SECTIONS,
        "Errors": errors,
        "Other names": [name for name in public if name not in named and name not in errors],
    }
    lines = ["# Python API", ""]
    for title, names in sections.items():
        if title:
            lines += [f"## {title}", ""]
        if title == "Errors":
            tree = (accucheck._errors.__doc__ or "").split("\n\n", 1)[1]
            drawing, _, text = tree.partition("\n\n")
            lines += ["```text", drawing, "```", "", text.replace("``", "`").strip(), ""]
        for name in names:
            if name in public:
                lines += [f"::: accucheck.{name}", ""]
    lines += [
        "## Dataframes",
        "",
        "::: accucheck.frames",
        "",
        "## OpenTelemetry",
        "",
        "::: accucheck.otel",
        "",
        "## Reports",
        "",
        "::: accucheck.report",
        "",
        "## Tests",
        "",
        "::: accucheck.pytest_plugin",
        "    options:",
        "      members: []",
        "",
        "::: accucheck.testing",
        "",
        "::: accucheck.sandbox",
        "",
    ]
    return "\n".join(lines)


def _command_line() -> str:
    from accucheck.cli._app import app

    text = app.generate_docs(output_format="markdown", heading_level=1, recursive=True)
    text = re.sub(r"^# accucheck$", "# Command line", text, count=1, flags=re.MULTILINE)
    text = text.replace(" *[default: False]*", "")
    # Where we write the usage line, cyclopts names the command twice.
    text = re.sub(r"^accucheck ((?:[a-z]+ )+)\1", r"accucheck \1", text, flags=re.MULTILINE)
    # Examples in the help become console blocks.
    return re.sub(r"((?:^\$ .*\n)+)", r"```console\n\1```\n", text, flags=re.MULTILINE)


def _configuration() -> str:
    from accucheck.cli import _settings
    from accucheck.cli._app import app

    commands: dict[str, set[str]] = {}
    for option, path in _settings.every_option(app):
        commands.setdefault(option, set()).add(" ".join(path))
    rows = []
    for option in sorted(commands):
        used = sorted(commands[option])
        where = ", ".join(used) if len(used) < 5 else f"{len(used)} commands"
        allowed = "your own file only" if option in _settings._USER_ONLY else "any file"
        name = _settings.PREFIX + option.upper().replace("-", "_")
        rows.append(f"| `{option}` | `{name}` | {where} | {allowed} |")
    return (
        "# Configuration\n\n"
        "Every option of the command line can also be an environment variable or a line in `accucheck.toml`. "
        "`accucheck config show` lists the settings in effect and where each comes from.\n\n"
        "## Where settings come from\n\n"
        "The first source that has a setting wins:\n\n"
        "1. the command line\n"
        "2. a profile chosen with `--profile`\n"
        "3. environment variables: `ACCUCHECK_` and the option's name, such as `ACCUCHECK_MAX_CALLS`\n"
        "4. a profile chosen with `ACCUCHECK_PROFILE`\n"
        "5. `accucheck.toml` in the current directory\n"
        "6. `accucheck.toml` in your configuration directory (on Linux `~/.config/accucheck/`)\n"
        "7. the default\n\n"
        "## The file\n\n"
        '```toml title="accucheck.toml"\n'
        "rate = 50\n"
        "max-calls = 10_000\n\n"
        "[profile.acme]\n"
        'api-id = "acme-id"\n'
        'secret-file = "acme.secret"\n'
        "```\n\n"
        "```sh\naccucheck config show\n```\n\n"
        "A relative path counts from the file's directory. Flags are `true` or `false`; a repeatable option takes a "
        "list. A file never contains the secret itself: use `secret-file` or `secret-command`.\n\n"
        "A file in the current directory may come with a list from someone else, so it cannot run a command or "
        "say where credentials are sent; those keys only work in your own file.\n\n"
        "## Credentials\n\n"
        "| variable | holds |\n|---|---|\n"
        "| `ACCUCHECK_API_ID`, `ACCUCHECK_API_SECRET` | your AccuAuth account, also for the Python library |\n"
        "| `ACCUCHECK_SERVE_API_ID`, `ACCUCHECK_SERVE_API_SECRET` | the key that callers of `accucheck serve` send |\n"
        "| `ACCUCHECK_BASE_URL` | another server, such as the sandbox; in Python, `base_url=` |\n"
        "| `ACCUCHECK_REAL_CALLS_IN_TESTS` | `1` allows paid calls in tests |\n\n"
        "`HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` also work ([proxies](../how-to/network.md)). Options of "
        "`accucheck sandbox` are `ACCUCHECK_SANDBOX_...` ([sandbox](sandbox.md)).\n\n"
        "## All keys\n\n"
        "The [command line](cli.md) page explains each option.\n\n"
        "| key | variable | commands | may be set in |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def _statuses() -> str:
    from accucheck._statuses import as_markdown

    return (
        "# Statuses\n\n"
        "What accucheck does with every reply, generated from the table that the code acts on.\n\n"
        "*Known from* says where the meaning of a reply is documented: on AccuAuth's `page` for this API, on its pages "
        "for similar services in other countries (`family`), or in the `HTTP` standard; `accucheck` marks cases that "
        "only accucheck tells apart. *Trust* says how certain the meaning is.\n\n"
        f"{as_markdown()}\n"
        "`InvalidNumber` (`INVALID_NUMBER`) has no reply: the text cannot be a Peruvian number, so no call is made.\n"
    )


def _exit_codes() -> str:
    from accucheck.cli._exit import EXPLANATION

    rows = "".join(f"| {int(code)} | {meaning} |\n" for code, meaning in EXPLANATION.items())
    return f"# Exit codes\n\nAll commands use the same codes.\n\n| code | meaning |\n|---|---|\n{rows}"


def _columns() -> str:
    from accucheck.files._rows import ResultColumns

    table = (ResultColumns.__doc__ or "").split("\n\n", 1)[1].replace("``", "`")
    table = "\n".join(line.strip() for line in table.strip().splitlines())
    return (
        "# Output columns\n\n"
        "Your own columns come back untouched and in order, followed by these. If your list already has a column with "
        "one of these names, yours keeps it and ours gets the prefix `accucheck_`.\n\n"
        f"{table}\n\n"
        '- `whatsapp` is empty if there is no answer. An empty cell is never a "no".\n'
        "- `status` is `OK`, AccuAuth's own word, or ours ([statuses](statuses.md)). `UNCHECKED` was not reached;\n"
        "  run the same command again to check them, and to ask again about `PENDING` and `REFUSED_ALIKE`.\n"
        "- `reason` is a sentence that says why there is no answer.\n"
        "- `signature` was written by a stranger, so formulas and control characters are made harmless.\n"
        "- `checked_at` is when the answer was bought, which may be earlier than the run.\n"
    )


MEANINGS = {
    "owner": "the process, as in `owners`",
    "account": "the account whose rate is shared: its host and a hash of its API id",
    "answers.at": "microseconds since 1970, UTC; a copy of what is in `packed`, for SQL",
    "answers.whatsapp": "the answer, empty for a failure; a copy of what is in `packed`, for SQL",
    "answers.packed": "the whole record as MessagePack, see `_packing.py`",
    "claims.owner": "the process, as in `owners`; in SQLite, a negative value is when its process was found dead",
    "earlier.key": "as in `answers`, which held this before the number was checked again",
    "earlier.at": "as in `answers`",
    "earlier.packed": "as in `answers`",
    "owners.id": "never reused, so that a claim cannot pass to another process",
    "owners.token": "names the file that the process keeps locked",
    "owners.boot": "when the system started; after a restart, the process's counters may be lost",
    "owners.expires": "until when its claims hold (SQLite: seconds since 1970)",
    "leases.job": "as in `jobs`",
    "leases.slot": "the position of its counters in the process's file",
    "leases.granted": "calls leased and not returned",
    "leases.made": "calls sent, as of the last report",
    "jobs.name": "the name set with `--job`, or the path of the output",
    "jobs.calls": "calls made by processes that have ended",
    "jobs.possibly_double_charged": "calls made again after their reply was lost",
    "jobs.lost_to_kills": "at most this many calls were in flight when a process was killed",
    "settings.name": "such as the rate found, the body's encoding, or calls that count against a quota",
    "settings.value": "as text",
    "paces.boot": "the system start from which its times count",
    "paces.pace": "the schedule of permits as JSON, see `_permits.py`",
    "reports.id": "in order of arrival",
    "reports.outcomes": "how calls ended since the last report, as JSON",
    "meta.version": "the version of the tables",
}
"""What columns mean, by name or by table and name; the others have a comment in the schema."""


def _ledger_tables() -> str:
    from accucheck._store import _file, _postgres

    sqlite = _tables_of("\n".join(f"{statement}\n;" for statement in _file._TABLES))
    postgres = _tables_of(_postgres._SCHEMA)
    lines = [
        "# Tables of a ledger",
        "",
        "Generated from the code. The tables are not a public interface and may change between versions: to read a "
        "ledger, use `accucheck ledger export`. See [Ledger](ledger.md).",
        "",
    ]
    for table in dict.fromkeys([*sqlite, *postgres]):
        lines += [f"## {table}", "", "| column | SQLite | PostgreSQL | meaning |", "|---|---|---|---|"]
        here, there = sqlite.get(table, {}), postgres.get(table, {})
        for column in dict.fromkeys([*here, *there]):
            kinds = [found[column][0] if column in found else "" for found in (here, there)]
            said = [found[column][1] for found in (here, there) if column in found and found[column][1]]
            meaning = MEANINGS.get(f"{table}.{column}") or (said[0] if said else MEANINGS.get(column, ""))
            if not meaning:
                raise SystemExit(f"{table}.{column} of the ledger has no meaning: see MEANINGS")
            lines.append(f"| `{column}` | {kinds[0]} | {kinds[1]} | {meaning.replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines)


def _tables_of(sql: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the type and the comment of every column, by table."""
    tables: dict[str, dict[str, tuple[str, str]]] = {}
    sql = re.sub("--.*", lambda comment: comment[0].replace(";", ":"), sql)
    for name, body in re.findall(r"CREATE TABLE (?:accucheck\.)?(\w+) \((.*?);", sql, re.DOTALL):
        columns = tables.setdefault(name, {})
        comment = ""
        lines = body.splitlines()
        if len(lines) == 1:
            lines = re.sub(r"\)[^)]*$", "", lines[0]).split(", ")
        for line in lines:
            code, _, after = line.strip().partition("--")
            if not code:
                comment = f"{comment} {after.strip()}".strip()
                continue
            found = re.match(r"([a-z_]+) (double precision|\w+)", code.strip())
            if found:
                columns[found[1]] = found[2].lower(), after.strip() or comment
            comment = ""
    return tables


def _sandbox() -> str:
    from accucheck.cli._sandbox import Options, app

    options = {each.keys: each for each in app.assemble_argument_collection(parse_docstring=True)}
    rows = []
    for setting in fields(Options):
        option = options[setting.name,]
        text = " ".join((option.parameter.help or "").split()).replace("|", "\\|")
        if isinstance(setting.default, str | float | int) and not isinstance(setting.default, bool):
            text += f" Default: {setting.default}."
        rows.append(f"| `{option.name}` | `{setting.name}` | {text} |")
    return (
        "# Sandbox\n\n"
        "`accucheck sandbox` is a simulated AccuAuth on your machine. It implements AccuAuth's API over HTTP, with any "
        "faults you configure. Every answer depends only on the number and a seed, so any output can be "
        "verified. In Python: `accucheck.sandbox.serve(Settings(...))`; in tests: "
        "[`accucheck_sandbox`](../how-to/pytest.md). Both take the text below, or Python's values: "
        '`rate_at=[(30, 50)]`, `soft={"checking": 0.1}`, `outage=(30, 20)`, `faults={"reset": 0.01}`.\n\n'
        "Its page at `/` shows live counts; `/stats`, `/stats/history` and `/invoice` are JSON.\n\n"
        "| option | setting | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


SITE_SECTIONS = {"": "Start", "explanation": "Explanation", "how-to": "How to", "reference": "Reference"}


def _for_language_models(all_pages: dict[str, str]) -> dict[str, str]:
    """Return llms.txt, an index, and llms-full.txt, every page in one file."""
    index = [
        "# accucheck",
        "",
        "> Bulk-check Peru phone numbers on WhatsApp through AccuAuth's paid API.",
        "",
        "[All pages in one file](llms-full.txt), the Python API included.",
    ]
    whole = []
    section = None
    for path in sorted(
        all_pages, key=lambda path: ("/" in path, path != "index.md", path != "tutorial.md", path)
    ):
        folder = path.rpartition("/")[0]
        if folder != section:
            section = folder
            index += ["", f"## {SITE_SECTIONS[folder]}", ""]
        title = next(_titles(all_pages[path]), path)
        url = "index.html" if path == "index.md" else path.removesuffix(".md") + "/"
        index.append(f"- [{title}]({url})")
        whole.append(_with_docstrings(all_pages[path].replace("<!-- notest -->\n", "")))
    return {"llms.txt": "\n".join(index) + "\n", "llms-full.txt": "\n\n".join(whole)}


def _with_docstrings(page: str) -> str:
    """Return a page with the signatures and docstrings in place of mkdocstrings' directives."""
    return re.sub(
        r"^::: (accucheck\S*)\n(?:    .*\n)*",
        lambda found: _as_text(found[1]) + "\n",
        page,
        flags=re.MULTILINE,
    )


def _resolved(path: str) -> object:
    """Return a module or a name of one. If the module lacks a library, that ImportError is raised."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
    parent, _, name = path.rpartition(".")
    return getattr(importlib.import_module(parent), name)


def _as_text(path: str) -> str:
    thing = _resolved(path)
    if inspect.ismodule(thing):
        return "\n\n".join(
            [
                f"### {path}\n\n{inspect.getdoc(thing)}",
                *(_as_text(f"{path}.{name}") for name in getattr(thing, "__all__", ())),
            ]
        )
    parts = [f"### {path.removeprefix('accucheck.')}", "", _documented(path.rpartition(".")[2], thing)]
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            if not name.startswith("_") and (
                inspect.isfunction(member) or isinstance(member, property | classmethod)
            ):
                parts += ["", _documented(name, getattr(member, "__wrapped__", member))]
    return "\n".join(parts)


def _documented(name: str, thing: object) -> str:
    try:
        signature = f"{name}{inspect.signature(thing)}" if callable(thing) else name  # type: ignore[arg-type]
    except (TypeError, ValueError):
        signature = name
    text = inspect.getdoc(thing) if callable(thing) or isinstance(thing, property) else str(thing)
    return f"`{signature}`\n\n{text or ''}".rstrip()


def _titles(text: str) -> Iterator[str]:
    return (line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))


def main(folder: Path = DOCS) -> None:
    """Write the pages."""
    for path, text in pages().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
