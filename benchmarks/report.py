"""A suite's results, and how they are written: JSON, a Markdown page, and plots."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a caption."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Return the table as GitHub Markdown; all columns but the first are numbers."""
        lines = [f"### {self.title}", "", *([self.note, ""] if self.note else [])]
        lines.append(f"| {' | '.join(self.columns)} |")
        lines.append(f"|---|{'---:|' * (len(self.columns) - 1)}")
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in self.rows]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Target:
    """A target, the value measured for it, and whether it is met."""

    what: str
    wanted: str
    measured: str
    met: bool


def at_most(what: str, value: float, bound: float, unit: str = "") -> Target:
    """Return a target for a value that must not exceed a bound; a missing value misses it."""
    return Target(what, f"≤ {number(bound)}{unit}", f"{number(value)}{unit}", value <= bound)


def at_least(what: str, value: float, bound: float, unit: str = "") -> Target:
    """Return a target for a value that must reach a bound; a missing value misses it."""
    return Target(what, f"≥ {number(bound)}{unit}", f"{number(value)}{unit}", value >= bound)


@dataclasses.dataclass
class Report:
    """The results of one suite."""

    suite: str
    machine: dict[str, Any]
    tables: list[Table] = dataclasses.field(default_factory=list)
    targets: list[Target] = dataclasses.field(default_factory=list)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Everything that was measured, JSON-ready."""
    plots: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """PNG images by the end of their file name."""
    caveats: list[str] = dataclasses.field(default_factory=list)
    """What a reader must know to read the figures rightly."""

    def to_markdown(self) -> str:
        """Return the page: machine, targets, tables, plots."""
        about = self.machine
        facts = [about[key] for key in ("processor", "system", "python", "nginx", "wrk") if about[key]]
        packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items() if version)
        lines = [
            f"## {self.suite}",
            "",
            f"{about['measured_at']}: {about['cores']} cores, {', '.join(facts)}; "
            f"load average at the start {about['load_average_at_start']}. {packages}.",
            "",
        ]
        lines += [f"- {caveat}" for caveat in self.caveats] + [""] * bool(self.caveats)
        if self.targets:
            rows = [(t.what, t.wanted, t.measured, "yes" if t.met else "**no**") for t in self.targets]
            lines += [Table("Targets", "", ("what", "wanted", "measured", "met"), rows).to_markdown(), ""]
        for table in self.tables:
            lines += [table.to_markdown(), ""]
        lines += [f"![{self.suite}]({self.suite}{name}.png)" for name in self.plots]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write ``SUITE.json``, ``SUITE.md`` and the plots; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "suite": self.suite,
            "machine": self.machine,
            "targets": [dataclasses.asdict(target) for target in self.targets],
            "figures": self.figures,
            "caveats": self.caveats,
        }
        written = [folder / f"{self.suite}.json", folder / f"{self.suite}.md"]
        written[0].write_text(json.dumps(record, indent=1, default=str) + "\n")
        written[1].write_text(self.to_markdown())
        for name, image in self.plots.items():
            written.append(folder / f"{self.suite}{name}.png")
            written[-1].write_bytes(image)
        return written


def number(value: float | None) -> str:
    """Format a value with about three digits; a missing one is a dash."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(share: float | None) -> str:
    """Format a share as a percentage; a missing one is a dash."""
    return "–" if share is None or math.isnan(share) else f"{share * 100:.2f} %"
