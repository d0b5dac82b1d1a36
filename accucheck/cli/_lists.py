"""Which lists a command reads, where the results go, and which rows to skip."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from accucheck._errors import ConfigurationError, InvalidNumber
from accucheck._phone import normalize, numbers_in
from accucheck._store import Bitset
from accucheck.cli._console import count, say
from accucheck.cli._options import STANDARD_STREAM, ListOptions, Several, Skipping
from accucheck.files import FORMATS, FileError, Row, Source, addresses, is_remote, local_name, open_source
from accucheck.files._formats import split_suffixes

__all__ = [
    "Exclusion",
    "ReadNumbers",
    "WhyNot",
    "expand",
    "make_exclusion",
    "most_numbers",
    "numbers_to_ask",
    "numbers_to_buy",
    "outputs_in",
    "reader_of",
    "reports_on",
    "several_of",
    "why_not",
]

WhyNot: TypeAlias = Callable[[Row], str]
ReadNumbers: TypeAlias = Callable[[str], list[int]]

_READABLE = {suffix for known in FORMATS.values() for suffix in known.read_suffixes}
_WRITABLE = {suffix for known in FORMATS.values() for suffix in known.write_suffixes}


def expand(names: Iterable[str], *, apart_from: str | None = None) -> list[str]:
    """Return the lists behind ``names``: files, folders (all lists in them) and patterns such as ``lists/*.csv``.

    What a folder or pattern holds in the folder ``apart_from`` are results of an earlier run, and no lists.

    Raises FileError if a folder contains no list or no file matches a pattern.
    """
    found: list[str] = []
    for name in names:
        if name == STANDARD_STREAM or os.path.isfile(name):
            found.append(name)
        elif is_remote(name):
            at_place = addresses(name) if glob.has_magic(name) else [name]
            if not at_place:
                raise FileError(f"{name}: no file matches")
            found += at_place
        elif os.path.isdir(name):
            inside = sorted(
                str(path)
                for path in Path(name).rglob("*")
                if _is_list(path.relative_to(name), path) and not _is_in(path, apart_from)
            )
            if not inside:
                raise FileError(f"{name}: this folder contains no lists")
            found += inside
        elif glob.has_magic(name):
            matching = sorted(
                path
                for path in glob.glob(name, recursive=True)
                if os.path.isfile(path) and not _is_in(Path(path), apart_from)
            )
            if not matching:
                raise FileError(f"{name}: no file matches")
            found += matching
        else:
            found.append(name)  # opening it says what is wrong
    return list(dict.fromkeys(found))


def _is_list(place: Path, path: Path) -> bool:
    """Return whether ``path``, at its ``place`` in a folder, looks like a list and is not hidden."""
    shown = not any(part.startswith((".", "~$")) for part in place.parts)
    return shown and split_suffixes(path)[0] in _READABLE and path.is_file()


def _is_in(path: Path, folder: str | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(Path(folder).resolve())


def outputs_in(folder: str, lists: Sequence[str]) -> list[str]:
    """Return a path in ``folder`` for the results of each list: its own name, in a format that can be written.

    Lists of the same name in several folders keep the folders in which they differ. Raises ConfigurationError if two
    lists would still get the same path.
    """
    again = Counter(Path(name).name.casefold() for name in lists)
    alike = [name for name in lists if again[Path(name).name.casefold()] > 1 and not is_remote(name)]
    above = os.path.commonpath([os.path.abspath(os.path.dirname(name)) for name in alike]) if alike else ""
    outputs: dict[str, str] = {}
    for name in lists:
        path = Path("stdin.csv") if name == STANDARD_STREAM else local_name(name)
        suffix, compression = split_suffixes(path)
        if suffix not in _WRITABLE:
            path = path.with_name(f"{path.name.removesuffix(path.suffix)}{_written_as(suffix)}")
        elif compression is not None and not any(
            known.compressible and suffix in known.write_suffixes for known in FORMATS.values()
        ):
            path = path.with_suffix("")
        between = os.path.relpath(os.path.dirname(os.path.abspath(name)), above) if name in alike else ""
        output = (
            os.path.normpath(os.path.join(folder, between, path.name))
            if between
            else os.path.join(folder, path.name)
        )
        if output in outputs:
            raise ConfigurationError(
                f"the results of {outputs[output]} and {name} would both be {output}; run them as two commands"
            )
        outputs[output] = name
    return list(outputs)


def reports_on(report: Path | None, lists: Sequence[str]) -> list[Path | None]:
    """Return the path of the report on each list: ``report.html``, or for several lists ``report-LIST.html``."""
    if report is None or len(lists) == 1:
        return [report] * len(lists)
    names = [Path("stdin" if name == STANDARD_STREAM else name).name for name in lists]
    stems = [name.partition(".")[0] or name for name in names]
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = names  # a.csv and a.xlsx
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = ["-".join(Path(name).parts).strip(os.sep + "-.") for name in lists]  # a.csv in two folders
    return [report.with_name(f"{report.stem}-{stem}{report.suffix}") for stem in stems]


def _written_as(suffix: str) -> str:
    """Return the suffix of the format to write instead of one that can only be read."""
    for known in FORMATS.values():
        if suffix in known.read_suffixes and known.write_suffixes:
            return known.write_suffixes[0]
    return ".csv"


@dataclass(frozen=True)
class Exclusion:
    """Rows to skip: numbers in an exclusion list, and rows that do not meet a condition."""

    numbers: Bitset
    source: str
    """Where the numbers come from, for the reason."""
    conditions: tuple[tuple[str, str], ...] = ()
    """Columns and the values that they must have."""

    def places(self, source: Source) -> list[tuple[int, str, str]]:
        """Return the places of the condition's columns in ``source``; raises FileError if one is missing."""
        columns = source.all_columns()
        plain = [_plain(column) for column in columns]
        found = []
        for column, value in self.conditions:
            if _plain(column) not in plain:
                raise FileError(
                    f"{source.name}: there is no column {column!r} for --where; the columns are {', '.join(columns)}"
                )
            found.append((plain.index(_plain(column)), columns[plain.index(_plain(column))], value))
        return found


def make_exclusion(skipping: Skipping, *, quiet: bool = False) -> Exclusion | None:
    """Read the exclusion lists and the conditions; None if there are neither.

    Prints what each list holds, unless ``quiet``: a number that could not be read is not excluded. Raises FileError for
    a list that holds no number at all, and ConfigurationError for a condition that is none.
    """
    exclude, where = skipping.exclude, skipping.where
    if not exclude and not where:
        return None
    conditions = []
    for text in where:
        column, separator, value = text.partition("=")
        if not separator or not column.strip():
            raise ConfigurationError(f"--where takes COLUMN=VALUE, such as --where consent=yes, not {text!r}")
        conditions.append((column.strip(), value.strip()))
    numbers = Bitset()
    for path in exclude:
        found = unread = 0
        with open_source(path) as refusals:
            for text in refusals.numbers():
                try:
                    for number in numbers_in(text):
                        numbers.add(number)
                        found += 1
                except InvalidNumber as error:
                    unread += error.problem != "empty"
            columns = " and ".join(map(str, refusals.number_columns))
        if not found and unread:
            raise FileError(f"{path}: column {columns} has no phone numbers, so nothing would be excluded")
        if not quiet:
            say(f"{path.name}: {count(found, 'number')} to leave out, from column {columns}")
        if unread:
            say(
                f"{path.name}: {count(unread, 'row')} without a valid number: correct them, "
                "or their numbers may be checked"
            )
    return Exclusion(numbers, ", ".join(path.name for path in exclude), tuple(conditions))


def why_not(source: Source, exclusion: Exclusion | None) -> WhyNot | None:
    """Return a function that says why a row of ``source`` must be skipped, or ``""``; None if none must be."""
    if exclusion is None:
        return None
    places = exclusion.places(source)

    def reason(row: Row) -> str:
        if places:
            cells = source.values(row)
            for place, column, value in places:
                cell = cells[place] if place < len(cells) else None
                if _plain("" if cell is None else str(cell)) != _plain(value):
                    return f"{column} is not {value}"
        if len(exclusion.numbers):
            with suppress(InvalidNumber):
                if any(number in exclusion.numbers for number in numbers_in(row.number)):
                    return f"listed in {exclusion.source}"
        return ""

    return reason


def several_of(reading: ListOptions, source: Source) -> Several | None:
    """Return how to handle rows with several numbers; None if they are invalid."""
    return reading.several or ("each" if len(source.number_columns) > 1 else None)


def reader_of(reading: ListOptions, source: Source) -> ReadNumbers:
    """Return a function from the text of a row to the numbers to check; it raises InvalidNumber if there is none."""
    mobile_only = reading.mobile_only
    several = several_of(reading, source)
    if several is None:
        return lambda text: [normalize(text, mobile_only=mobile_only)]
    if several == "first":
        return lambda text: numbers_in(text, mobile_only=mobile_only)[:1]
    return lambda text: numbers_in(text, mobile_only=mobile_only)


def most_numbers(source: Source, read: ReadNumbers) -> int:
    """Return the most numbers in one row, from a pass over the list."""
    most = 1
    for text in source.numbers():
        with suppress(InvalidNumber):
            most = max(most, len(read(text)))
    return most


def numbers_to_buy(source: Source, reason: WhyNot | None, reading: ListOptions) -> Iterator[str]:
    """Yield every number of the rows that may be asked, and the text of those that have none."""
    read = None if several_of(reading, source) is None else reader_of(reading, source)
    for text in numbers_to_ask(source, reason):
        if text is None:
            continue
        if read is None:
            yield text
            continue
        try:
            yield from map(str, read(text))
        except InvalidNumber:
            yield text


def numbers_to_ask(source: Source, reason: WhyNot | None) -> Iterator[str | None]:
    """Yield the number text of every row, or None for a row that must not be asked."""
    if reason is None:
        yield from source.numbers()
        return
    for row in source.rows():
        yield None if reason(row) else row.number


def _plain(text: str) -> str:
    """Return ``text`` without accents, case and blanks around it, to compare by."""
    decomposed = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
