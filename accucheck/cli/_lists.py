"""Which lists a command reads, where the results go, and which rows to skip."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from accucheck._errors import ConfigurationError, InvalidNumber
from accucheck._phone import normalize, numbers_in
from accucheck._store import Bitset
from accucheck.cli._console import count, say
from accucheck.cli._options import STANDARD_STREAM, ListOptions, Several, Skipping, Talk
from accucheck.cli._settings import closest
from accucheck.files import FORMATS, FileError, Row, Source, addresses, is_remote, local_name, open_source
from accucheck.files._formats import split_suffixes

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
                near = closest(_plain(column), plain)
                raise FileError(
                    f"{source.name}: there is no column {column!r} for --where; "
                    + (
                        f"the columns are {', '.join(columns)}"
                        if near is None
                        else f"did you mean {columns[plain.index(near)]!r}?"
                    )
                )
            found.append((plain.index(_plain(column)), columns[plain.index(_plain(column))], value))
        return found


def make_exclusion(skipping: Skipping, *, quiet: bool = False) -> Exclusion | None:
    """Read the exclusion lists and the conditions; None if there are neither.

    Prints what each list holds, unless ``quiet``: a number that could not be read is not excluded. Raises FileError for
    a list that holds no number at all, and ConfigurationError for an invalid condition.
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


class Leads:
    """An open list, and how its rows are read: which are skipped, and which numbers are in the others.

    Raises FileError if the list has no column for a condition of ``exclusion``.
    """

    def __init__(self, source: Source, reading: ListOptions, exclusion: Exclusion | None = None) -> None:
        self.source = source
        self.several: Several | None = reading.several or ("each" if len(source.number_columns) > 1 else None)
        """How to handle rows with several numbers; None if they are invalid."""
        self._mobile_only = reading.mobile_only
        self._exclusion = exclusion
        self._conditions = [] if exclusion is None else exclusion.places(source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.source.close()

    def read(self, text: str) -> list[int]:
        """Return the numbers to check in the text of a row. Raises InvalidNumber if there is none."""
        if self.several is None:
            return [normalize(text, mobile_only=self._mobile_only)]
        numbers = numbers_in(text, mobile_only=self._mobile_only)
        return numbers[:1] if self.several == "first" else numbers

    def why_not(self, row: Row) -> str:
        """Return why a row is skipped; "" if it is not."""
        if self._exclusion is None:
            return ""
        cells = self.source.values(row) if self._conditions else ()
        for place, column, value in self._conditions:
            cell = cells[place] if place < len(cells) else None
            if _plain("" if cell is None else str(cell)) != _plain(value):
                return f"{column} is not {value}"
        if len(self._exclusion.numbers):
            with suppress(InvalidNumber):
                if any(number in self._exclusion.numbers for number in numbers_in(row.number)):
                    return f"listed in {self._exclusion.source}"
        return ""

    def texts(self) -> Iterator[str | None]:
        """Yield the number text of every row, or None for a row that is skipped."""
        if self._exclusion is None:
            yield from self.source.numbers()
            return
        for row in self.source.rows():
            yield None if self.why_not(row) else row.number

    def to_buy(self) -> Iterator[str]:
        """Yield every number of the rows that are not skipped, and the text of those that have none."""
        for text in self.texts():
            if text is None:
                continue
            if self.several is None:
                yield text
                continue
            try:
                yield from map(str, self.read(text))
            except InvalidNumber:
                yield text

    def most_numbers(self) -> int:
        """Return the most numbers that are written for one row, if need be from a pass over the list."""
        most = 1
        for text in self.source.numbers() if self.several == "each" else ():
            with suppress(InvalidNumber):
                most = max(most, len(self.read(text)))
        return most


def open_leads(
    name: str, reading: ListOptions, exclusion: Exclusion | None, talk: Talk, *, live: bool = False
) -> Leads:
    """Open a lead list and print which column has the numbers. ``live``: read standard input as it arrives."""
    source = open_source(
        name,
        column=reading.column or None,
        sheet=reading.sheet,
        visible_only=reading.visible_only,
        encoding=reading.encoding,
        live=live,
        # Not sys.stdin: if a thread holds its lock when the interpreter exits, the process crashes.
        stdin=open(0, "rb", buffering=0, closefd=False) if live else None,  # noqa: SIM115
    )
    if not talk.quiet:
        say("phone numbers: column " + " and ".join(map(str, source.number_columns)))
        for note in source.notes:
            say(note)
        if source.several is not None and reading.several is None:
            say(source.several)
    try:
        return Leads(source, reading, exclusion)
    except FileError:
        source.close()
        raise


def _plain(text: str) -> str:
    """Return ``text`` without accents, case and blanks around it, to compare by."""
    decomposed = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
