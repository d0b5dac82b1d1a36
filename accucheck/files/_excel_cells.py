"""Cells of a workbook's XML and their formats: what is written into a copy of one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from xml.sax.saxutils import escape

from accucheck.files._results import iso_date, iso_moment

__all__ = ["LONGEST_CELL", "Formats", "column_letters", "column_number", "text_cell"]

LONGEST_CELL = 32_767


class Formats:
    """The formats of our cells in the workbook's styles; -1 where there is none."""

    def __init__(self) -> None:
        self.since_1904 = False
        self._day = self._moment = -1
        self.percent = self.bold = -1

    def added_to(self, styles: bytes) -> bytes:
        """Return the styles with our formats; as they are if they are in a form that nobody writes."""
        found = re.search(rb"<(\w+:)?cellXfs\b[^>]*>(.*?)</(?:\w+:)?cellXfs>", styles, re.DOTALL)
        sheet = re.search(rb"<(?:\w+:)?styleSheet\b[^>]*[^/]>", styles)
        if found is None or sheet is None:
            return styles
        prefix = found[1] or b""
        count = len(re.findall(rb"<" + prefix + rb"xf\b", found[2]))
        used = [int(number) for number in re.findall(rb'numFmtId="(\d+)"', styles)]
        first = max([163, *used]) + 1
        self._day, self._moment, self.percent = count, count + 1, count + 2
        kinds = b"".join(
            b'<%sxf numFmtId="%d" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
            % (prefix, number)
            for number in (first, first + 1, 10)  # 10 is 0.00% in every workbook
        )
        fonts = re.search(rb"<(?:\w+:)?fonts\b[^>]*>(.*?)</(?:\w+:)?fonts>", styles, re.DOTALL)
        if fonts is not None:
            self.bold = count + 3
            kinds += b'<%sxf numFmtId="0" fontId="%d" fillId="0" borderId="0" xfId="0" applyFont="1"/>' % (
                prefix,
                len(re.findall(rb"<" + prefix + rb"font\b", fonts[1])),
            )
        styles = styles[: found.end(2)] + kinds + styles[found.end(2) :]
        opening = styles[found.start() : found.start(2)]
        added = kinds.count(b"/>")
        styles = styles.replace(
            opening, re.sub(rb'\s*count="\d+"', b' count="%d"' % (count + added), opening), 1
        )
        if fonts is not None:
            first_font = re.search(
                rb"<" + prefix + rb"font\b(?:[^>]*/>|.*?</" + prefix + rb"font>)", fonts[1], re.DOTALL
            )
            bold = _bold(first_font[0] if first_font else b"", prefix)
            end = styles.index(b"fonts>", fonts.end(1)) - len(prefix) - 2
            styles = styles[:end] + bold + styles[end:]
            opening = styles[fonts.start() : fonts.start(1)]
            number = len(re.findall(rb"<" + prefix + rb"font\b", fonts[1])) + 1
            styles = styles.replace(opening, re.sub(rb'\bcount="\d+"', b'count="%d"' % number, opening), 1)
        codes = b"".join(
            b'<%snumFmt numFmtId="%d" formatCode="%s"/>' % (prefix, number, code)
            for number, code in ((first, rb"yyyy\-mm\-dd"), (first + 1, rb"yyyy\-mm\-dd\ hh:mm:ss"))
        )
        if known := re.search(rb"<(?:\w+:)?numFmts\b([^>]*)>", styles):
            styles = styles[: known.end()] + codes + styles[known.end() :]
            had = re.search(rb'count="(\d+)"', known[1])
            if had:
                renewed = known[0].replace(had[0], b'count="%d"' % (int(had[1]) + 2))
                styles = styles.replace(known[0], renewed, 1)
            return styles
        numbers = b'<%snumFmts count="2">%s</%snumFmts>' % (prefix, codes, prefix)
        return styles[: sheet.end()] + numbers + styles[sheet.end() :]

    def cell(self, prefix: str, place: str, value: date | datetime) -> str:
        """Return a cell with a date, or with a time in UTC."""
        exact = isinstance(value, datetime)
        style = self._moment if exact else self._day
        if style < 0 or value.year < 1901:
            text = iso_moment(value) if isinstance(value, datetime) else iso_date(value)
            return text_cell(prefix, place, text)
        start = date(1904, 1, 1) if self.since_1904 else date(1899, 12, 30)
        if isinstance(value, datetime):
            value = value.astimezone(UTC)
            seconds = value.hour * 3600 + value.minute * 60 + value.second
            serial = f"{(value.date() - start).days + seconds / 86_400:.10f}"
        else:
            serial = str((value - start).days)
        return f'<{prefix}c r="{place}" s="{style}"><{prefix}v>{serial}</{prefix}v></{prefix}c>'


def _bold(font: bytes, prefix: bytes) -> bytes:
    """Return a font like this one, in bold."""
    if re.search(rb"<" + prefix + rb"b\s*/>", font):
        return font
    if (font.endswith(b"/>") and font.count(b"<") == 1) or not font:
        return b"<%sfont><%sb/></%sfont>" % (prefix, prefix, prefix)
    start = font.index(b">") + 1
    return font[:start] + b"<%sb/>" % prefix + font[start:]


def text_cell(prefix: str, place: str, text: str, style: str = "") -> str:
    # Excel reads _x0041_ in a text as the letter A.
    text = escape(re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text))
    p = prefix
    space = ' xml:space="preserve"' if text != text.strip() else ""
    return f'<{p}c r="{place}"{style} t="inlineStr"><{p}is><{p}t{space}>{text}</{p}t></{p}is></{p}c>'


def column_letters(column: int) -> str:
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def column_number(letters: bytes) -> int:
    column = 0
    for letter in letters:
        column = 26 * column + letter - 64
    return column
