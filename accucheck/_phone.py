"""Turns a cell of a lead list into the national number of a Peru phone, or the reason why it cannot be one.

A national number is an integer: Peru has no leading zeros (mobiles are 9 and eight digits; fixed lines
are eight digits, area code included), so it is exact, hashes fast and is the ledger's key.

Nearly every row of a list is nine ASCII digits and takes one comparison. The rest follow one rule, not a list of
labels: **if exactly one Peru number can be read from the cell, and every other digit is accounted for (country code,
trunk zero, extension, the ordinal of a label), that number is used, whatever the words around it.** The steps: *plain*
(remove Unicode and spreadsheet decoration), *links* (reduce ``wa.me/``, ``whatsapp://send?phone=`` and ``tel:`` to
their number), *pieces* (cut at words, which never occur inside a number), *national* (remove prefixes, check length and
area).
libphonenumber decides which fixed lines exist and which country another number belongs to. It does not read the text:
it misreads ``051987654321``, ``987654321.0`` and ``9.87654321E8``, and turns letters into digits.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn
from urllib.parse import unquote

from accucheck._errors import InvalidNumber, NumberProblem

__all__ = ["e164", "mask", "normalize", "numbers_in"]

COUNTRY_CODE: Final = "51"
_FIRST_MOBILE: Final = 900_000_000

_E164_MOBILE = re.compile(r"\+?51(9[0-9]{8})").fullmatch

_LONGEST_CELL = 400
_LONGEST_SHOWN = 32

# Spreadsheets: '987654321 (text mark), ="987654321" (kept from being a number), "987654321" (quoted twice).
_DRESS = " \t\r\n\v\f'\"`´‘’‚‛“”„«»="
_NOTHING = frozenset(
    {"", "\\n", "na", "n/a", "#n/a", "nan", "nil", "none", "null", "<na>", "s/n", "undefined"}
)

# 987654321.0 and 987,654,321.00; 987654321,00 where the comma is the decimal mark. The decimal mark is never
# also the group mark: 14.56.78.00 is a number in pairs.
_DECIMAL = re.compile(r"([+\d][\d, ]*)\.0{1,2}|([+\d][\d. ]*),0{1,2}")
_SCIENTIFIC = re.compile(r"(\d)(?:[.,](\d+))?[eE](\+?)(\d{1,2})")

_PERCENT = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)
_TEL_CONTEXT = re.compile(
    r"tel:(?P<number>[^;]*)(?:;[^;]*)*?;phone-context=(?P<context>\+[\d.()-]+).*", re.IGNORECASE
)
_LINK = re.compile(
    r"(?:https?://)?(?:www\.)?wa\.me/(?:c/|p/\d+/)?(?P<path>\+?\d[\d -]*)?(?P<tail>[/?&#]\S*)?"
    r"|(?:https?://)?[a-z.]*whatsapp\.com/\S*|[a-z][a-z0-9.+-]*://\S*",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"[?&](?:phone|number|numero|tel|telefono)=(\+?[\d ().-]+)", re.IGNORECASE)
_WITH_TEXT = re.compile(r"[?&]text=", re.IGNORECASE)
_WHATSAPP_ID = re.compile(r"(\d+)@(?:s\.whatsapp\.net|c\.us)", re.IGNORECASE)
_EXTENSION = re.compile(
    r"(?<=[\d)])[\s,;([-]*(?:extensi[oó]n|extn?|anexo|anx|interno|int|x)\s*[.:#°=-]*\s*\d{1,6}(?=\s*(?:$|[/;,|&\n()\]]|[^\W\d_]))",
    re.IGNORECASE,
)

# 12/11/2025 could be read as a landline in Lima, but nobody writes landlines this way.
_DATE = re.compile(
    r"(?<!\d)(?<!\d[/.-])(?:[0-3]?\d([/.-])[0-3]?\d\1(?:19|20)\d\d|(?:19|20)\d\d([/.-])[01]?\d\2[0-3]?\d)"
    r"(?:(?:T|,?\s+)[0-2]?\d:[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:\s*[AaPp]\.?\s?[Mm]\b\.?|Z|[+-]\d\d:?\d\d)?)?(?![/.-]?\d)"
)

_BETWEEN_DIGITS = " \t\r\n\v\f-–—.,/\\()[]_·•+*#~:;|&'’"
_DROP_SEPARATORS = str.maketrans("", "", _BETWEEN_DIGITS)
_WORD = re.compile(r"([^\d" + re.escape(_BETWEEN_DIGITS) + r"]+)|(?=\+)")
_GROUP = re.compile(r"\d+")
_BETWEEN_NUMBERS = (
    re.compile(r"[/;,|&\n\r\t]|:::?|\s[-–—]\s|\s{2,}"),
    re.compile(r"[/;,|&\n\r\t()]|:::?|\s[-–—]\s|\s{2,}"),
)

# What precedes the digits in "Celular 2: 987654321", "1) 987654321" and "12.- 987654321".
_ORDINAL = re.compile(r"\s*[#.]?\s*\d{1,2}\s*[:.)-]+\s*(?=\D*\d)")
_PLAIN_ORDINAL = re.compile(r"\s*(?:\(?\d{1,2}\)\s*|\d{1,3}(?:[.)]-?|-)\s+)(?=\D*\d)")

# Letters that people and scanners put in place of a digit.
_LOOKS_LIKE_A_DIGIT = frozenset("OoQDIlSBZ")
# Words which say that the digits after them are something else.
_NOT_A_PHONE = frozenset(
    """
    dni ruc ce carnet carne doc documento cedula pasaporte
    id cod codigo code pedido orden order factura boleta
    """.split()  # noqa: SIM905
)


def normalize(text: str | float | None, *, mobile_only: bool = False) -> int:
    """Return the national number in ``text``.

    Accepts the forms found in lead lists: ``987654321``, ``+51 987 654 321``, ``0051…``, ``51…``, ``051…``,
    ``(01) 456-7890``, ``01`` before a mobile, ``tel:`` URIs, WhatsApp links and ids, any words around the number and an
    extension after it, any Unicode digits and spaces, and what spreadsheets turn a number into (``987654321.0``,
    ``9.87654321E8``, ``9,87654321E+08``, ``'987654321``). Refuses a number that a spreadsheet has *rounded*
    (``9.88E+08``): its digits are lost, and the call would pay for someone else's number. Also refuses cells with
    digits that belong to no number, and cells with several numbers (``numbers_in`` reads those). Integers and floats
    are read like their text, None and NaN like an empty cell.

    Args:
        text: One cell.
        mobile_only: Refuse fixed lines, which are otherwise allowed because WhatsApp Business uses them.

    Returns:
        Nine digits starting with 9 for a mobile, eight digits (area code included) for any other line. ``Check.number``
        and ``CheckError.number`` are the same with ``+51`` in front.

    Raises:
        InvalidNumber: It cannot be a Peru number; the message says why, and ``problem`` in one word.

    Examples:
        ```python
        assert accucheck.normalize("+51 987 654 321") == 987654321
        ```
    """
    if type(text) is str:
        # Only methods of str, because this runs once per row.
        if len(text) == 9 and text[0] == "9" and text.isascii() and text.isdigit():
            return int(text)
        if mobile := _E164_MOBILE(text):
            return int(mobile[1])
    cell = _as_text(text)
    found = _read(cell)
    if len(found.numbers) > 1:
        _refuse(cell, "several", "contains more than one number; put each in its own row")
    if found.rest:
        _refuse(cell, "several", f"contains other digits besides the number ({_shown(found.rest)})")
    national = found.numbers[0]
    if mobile_only and national < _FIRST_MOBILE:
        _refuse(cell, "not_mobile", "is a landline, and only mobile numbers are wanted")
    return national


def numbers_in(text: str | float | None, *, mobile_only: bool = False) -> list[int]:
    """Return every Peru number in ``text``, each once, in order.

    Reads what ``normalize`` reads, and cells with several numbers: ``987654321 / 912345678``,
    ``Cel. 987654321, casa (01) 456-7890``, ``987654321 ::: 912345678``, one number per line. Digits that belong to no
    number are left out. With ``mobile_only``, fixed lines are left out too.

    Raises:
        InvalidNumber: There is none; with the message of ``normalize``.
    """
    if type(text) is str and len(text) == 9 and text[0] == "9" and text.isascii() and text.isdigit():
        return [int(text)]
    cell = _as_text(text)
    numbers = _read(cell).numbers
    if mobile_only and not (numbers := [number for number in numbers if number >= _FIRST_MOBILE]):
        _refuse(cell, "not_mobile", "is a landline, and only mobile numbers are wanted")
    return numbers


def e164(national: int) -> str:
    """Return the number with its country code, as ``+51987654321`` (ITU-T E.164)."""
    return f"+{COUNTRY_CODE}{national}"


def mask(number: str | int) -> str:
    """Return ``9876•••21`` for 987654321: fit for a log.

    Only digits are ever shown, at least three stay hidden, and the country code is left out.
    """
    digits = "".join(filter(str.isdecimal, str(number)))
    if len(digits) > 9:
        digits = digits.removeprefix("00").removeprefix(COUNTRY_CODE)
    if len(digits) >= 9:
        return f"{digits[:4]}•••{digits[-2:]}"
    if len(digits) >= 7:
        return f"{digits[:2]}•••{digits[-2:]}"
    return "•••"


class _Found(NamedTuple):
    """What was read from a cell."""

    numbers: list[int]
    """Each once; at least one."""
    rest: str = ""
    """Digits that belong to none of them."""


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        raise InvalidNumber("A number is text or an integer, not bytes: decode it first.", problem="letters")
    return "" if value is None else str(value)  # NaN and pandas' NA read "nan" and "<NA>"


def _read(cell: str) -> _Found:
    text = _plain(cell)
    if len(text) > _LONGEST_CELL:
        _refuse(cell, "too_long", f"has {len(text)} characters, too many for a phone number")
    if text.lower() in _NOTHING:
        _refuse(cell, "empty", "contains no number")
    text = _undo_spreadsheet(cell, text)
    if _DATE.search(text):
        text = _DATE.sub("\n", text)
        if not any(map(str.isdigit, text)):
            _refuse(cell, "letters", "is a date, not a phone number")
    digits = text.translate(_DROP_SEPARATORS)
    if not digits:
        _refuse(cell, "empty", "contains no number")
    if not (digits.isascii() and digits.isdigit()):
        return _read_pieces(cell, _without_links(cell, text))
    international = "+" in text[: text.index(digits[0])]
    national = _national(digits, international)
    if national is not None:
        return _Found([national])
    if _has_area_code_before_mobile(digits, international):
        _say_why_not(cell, digits, international)
    if len(digits) > 9 and ("+" in text.lstrip("+( ") or len(_GROUP.findall(text)) > 1 or len(digits) == 18):
        return _read_pieces(cell, text)
    return _say_why_not(cell, digits, international)


def _plain(cell: str) -> str:
    """Fold Unicode to the corresponding ASCII, and remove spreadsheet quotes."""
    if not cell.isascii():
        folded = unicodedata.normalize("NFKC", cell[: 4 * _LONGEST_CELL])
        cell = "".join(map(_plain_character, folded)) + cell[4 * _LONGEST_CELL :]
    return cell.replace("\0", "").strip(_DRESS)


_INVISIBLE_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"  # Hangul fillers and the blank of Braille


@lru_cache(4096)
def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    match unicodedata.category(character):
        case "Nd":  # NFKC folds full-width digits, not the digits of other scripts
            return str(unicodedata.decimal(character))
        case "Cf" | "Mn" | "Me" | "Cc":  # zero-width characters, direction marks, soft hyphens, keycaps
            return ""
        case "Zs":
            return " "
        case "Zl" | "Zp":
            return "\n"
        case "Pd":
            return "-"
        case _ if character in _INVISIBLE_LETTERS:
            return ""
        case _:
            return "-" if character == "−" else character


def _undo_spreadsheet(cell: str, text: str) -> str:
    if whole := _DECIMAL.fullmatch(text):
        return whole[1] or whole[2]
    if scientific := _SCIENTIFIC.fullmatch(text):
        lead, fraction, sign, exponent = scientific.groups()
        digits = lead + (fraction or "")
        missing = int(exponent) + 1 - len(digits)
        # Excel shows E+08 and rounds to the width of the column. Programs print E8 and drop nothing but
        # trailing zeros, so there the zeros may be put back.
        if missing < 0 or missing > 15 or (missing and (sign or exponent.startswith("0"))):
            _refuse(
                cell,
                "not_peruvian",
                "was rounded by a spreadsheet and has lost digits: export the column as text",
            )
        return digits + "0" * missing
    return text


def _without_links(cell: str, text: str) -> str:
    """Return the text with each link, address and extension reduced to the number in it."""
    if _PERCENT.search(text):
        text = unquote(text)
    if context := _TEL_CONTEXT.fullmatch(text):
        number = context["number"]
        return number if "+" in number else context["context"] + number
    if "@" in text:
        text = _WHATSAPP_ID.sub(r" \1 ", text)
        if "@" in text:
            _refuse(cell, "letters", "is an email address or a user name, not a phone number")
    if "/" in text:
        text = _read_links(cell, text)
    return _EXTENSION.sub("\n", text)


def _read_links(cell: str, text: str) -> str:
    read, end = [], 0
    while link := _LINK.search(text, end):
        parameter = _PARAMETER.search(link[0])
        number = parameter[1] if parameter else link["path"]
        if number is None:
            _refuse(cell, "letters", "is a link without a phone number")
        read += [text[end : link.start()], "\n", number, "\n"]
        end = link.end()
        if _WITH_TEXT.search(link[0]) and not _LINK.search(text, end):
            end = len(text)  # the message that the link would send, with blanks in it
    return "".join([*read, text[end:]])


def _read_pieces(cell: str, text: str) -> _Found:
    """Read a cell that contains words or several numbers."""
    numbers: dict[int, None] = {}
    rest: list[str] = []
    pieces = _pieces(cell, text)
    for label, body in pieces:
        if label in _NOT_A_PHONE:
            rest.append(body)
            continue
        found, left = _numbers_of(body, labeled=bool(label))
        numbers |= dict.fromkeys(found)
        rest += left
    if numbers:
        return _Found(list(numbers), " ".join(" ".join(_GROUP.findall(digits)) for digits in rest))
    label, body = pieces[0] if len(pieces) == 1 else ("", "")
    digits = "".join(_GROUP.findall(body))
    if label in _NOT_A_PHONE and digits:
        _refuse(cell, "letters", f"is labeled {label!r}, so it is not a phone number")
    if len(digits) >= 6:
        _say_why_not(cell, digits, body.lstrip("( ").startswith("+"))
    if pieces:
        _refuse(cell, "letters", "contains letters or symbols that do not belong in a phone number")
    return _refuse(cell, "letters", "is text, not a phone number")


def _pieces(cell: str, text: str) -> list[tuple[str, str]]:
    """Return each run of digits and separators with the word before it."""
    pieces: list[tuple[str, str]] = []
    label = country = ""
    parts: list[str | None] = _WORD.split(text)
    for place in range(0, len(parts), 2):
        body, word = parts[place] or "", (parts[place + 1] if place + 1 < len(parts) else None)
        if body.translate(_DROP_SEPARATORS):
            body, country = country + body, ""
            if "".join(_GROUP.findall(body)).lstrip("0") == COUNTRY_CODE and place + 2 < len(parts):
                country = body  # "+51 (Perú) 987 654 321"
            else:
                pieces.append((label, body))
                label = ""
        if word is not None:
            _refuse_what_breaks_digits(cell, word, body, parts[place + 2] or "")
            label = _folded(word)
    return pieces


def _refuse_what_breaks_digits(cell: str, word: str, before: str, after: str) -> None:
    touches = before[-1:].isdigit(), after[:1].isdigit()
    if any(touches) and len(word) == 1 and (all(touches) or word in _LOOKS_LIKE_A_DIGIT) and word not in "xX":
        _refuse(cell, "letters", f"has “{word}” between its digits")
    if any(unicodedata.category(character) == "Sc" for character in word):
        _refuse(cell, "letters", "contains letters or symbols that do not belong in a phone number")


def _folded(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word).casefold()
    return "".join(filter(str.isalpha, plain))


def _numbers_of(body: str, *, labeled: bool) -> tuple[list[int], list[str]]:
    """Return the numbers in a run of digits and separators, and the digits that belong to none."""
    stripped = body.strip(_DRESS)
    if whole := _DECIMAL.fullmatch(stripped):
        body = whole[1] or whole[2]
    groups = _GROUP.findall(body)
    international = body.lstrip("( ").startswith("+")
    if (national := _national("".join(groups), international)) is not None:
        return [national], []
    if numbers := _cut(tuple(groups), international):
        return numbers, []
    if ordinal := (_ORDINAL if labeled else _PLAIN_ORDINAL).match(body):
        found, left = _numbers_of(body[ordinal.end() :], labeled=False)
        if found:
            return found, left
    for between in _BETWEEN_NUMBERS:
        numbers, left = [], []
        for part in between.split(body):
            if groups := _GROUP.findall(part):
                found = _cut(tuple(groups), part.lstrip("( ").startswith("+"))
                numbers += found
                left += [] if found else [part]
        if numbers:
            return numbers, left
    return [], [body]


def _cut(groups: tuple[str, ...], international: bool) -> list[int]:
    """Cut digit groups into as few valid numbers as possible; [] if that is impossible."""
    if len(groups) == 1 and len(groups[0]) == 18 and groups[0][0] == groups[0][9] == "9":
        return [int(groups[0][:9]), int(groups[0][9:])]
    # From the end: the best way to cut the groups from each place on.
    ways: list[list[int] | None] = [None] * len(groups) + [[]]
    for begin in range(len(groups) - 1, -1, -1):
        digits = ""
        for end in range(begin, min(begin + 12, len(groups))):
            digits += groups[end]
            if len(digits) > 16:
                break
            behind = ways[end + 1]
            if behind is None or len(digits) < 8:
                continue
            national = _national(digits, international and begin == 0)
            way = ways[begin]
            if national is not None and (way is None or len(behind) + 1 < len(way)):
                ways[begin] = [national, *behind]
    return ways[0] or []


def _bare(digits: str, international: bool) -> str | None:
    """Remove the prefixes; return None if they are another country's."""
    international = international or digits.startswith("00")
    digits = digits.lstrip("0")  # one zero is the trunk prefix; +0 and 051 are slips that lists are full of
    if international and digits and not digits.startswith(COUNTRY_CODE):
        return None
    # 51 is also the area code of Puno, so eight digits that start with it are a whole number, unless a plus
    # or 00 says otherwise. +51 twice is what a form makes that puts its own in front.
    while digits.startswith(COUNTRY_CODE) and (international or len(digits) > 9):
        digits, international = digits[2:].lstrip("0"), False
    return digits


def _national(digits: str, international: bool) -> int | None:
    """Return the number if the digits are one."""
    bare = _bare(digits, international)
    if bare is None:
        return None
    if len(bare) == 9 and bare[0] == "9":
        return int(bare)
    if len(bare) == 8 and bare[0] != "9":
        return int(bare) if _is_fixed_line(bare) else None
    # (01) 987 654 321: Lima's code before a mobile, which takes none. It can mean only that mobile.
    if len(bare) == 10 and bare[:2] == "19" and len(digits) > 10:
        return int(bare[1:])
    return None


def _has_area_code_before_mobile(digits: str, international: bool) -> bool:
    bare = _bare(digits, international)
    return bare is not None and len(bare) == 11 and bare[2] == "9" and bare[:2] in _AREA_CODES


def _is_fixed_line(digits: str) -> bool:
    if digits[:2] == "19":
        return True  # the numbering plan has 01 9xxxxxx for Lima, libphonenumber has not
    # Imported here: the import takes longer than a small list takes to check, and most lists are mobiles.
    import phonenumbers

    return phonenumbers.is_valid_number(
        phonenumbers.PhoneNumber(country_code=51, national_number=int(digits))
    )


def _say_why_not(cell: str, digits: str, international: bool) -> NoReturn:
    area_code = _has_area_code_before_mobile(digits, international)
    bare = _bare(digits, international)
    if bare is None:
        _refuse_country(cell, digits.lstrip("0"))
    digits = bare
    length = len(digits)
    if not digits:
        _refuse(cell, "too_short", "contains a prefix without a number")
    if length == 8 and digits[0] != "9":
        area = "1" if digits[0] == "1" else digits[:2]
        _refuse(cell, "unknown_area", f"is not a Peruvian landline: area code {area} has no such number")
    if length in (6, 7) and digits[0] != "9":
        _refuse(cell, "unknown_area", "looks like a landline without its area code (01 for Lima)")
    if length < 9:
        _refuse(cell, "too_short", f"is too short: it has {length} digits; a Peruvian mobile has 9 (typo?)")
    if area_code:
        _refuse(
            cell,
            "too_long",
            f"has the area code 0{digits[:2]} before a mobile number, which needs none: remove it",
        )
    # In a list of Peruvian leads, 99364200777 is a mobile with two digits too many, not one from Turkmenistan.
    if length > 9 and (length > 11 or digits[0] != "9") and (country := _country_of(digits)):
        _refuse(cell, "other_country", f"looks like a number from another country ({country})")
    if length > 9:
        _refuse(cell, "too_long", f"is too long: it has {length} digits; a Peruvian mobile has 9 (typo?)")
    _refuse(cell, "not_peruvian", "has 9 digits but does not start with 9, as Peruvian mobile numbers do")


_AREA_CODES = frozenset("41 42 43 44 51 52 53 54 56 61 62 63 64 65 66 67 72 73 74 76 82 83 84".split())  # noqa: SIM905


def _refuse_country(cell: str, digits: str) -> NoReturn:
    import phonenumbers

    for length in (1, 2, 3):
        region = phonenumbers.region_code_for_country_code(int(digits[:length] or 0))
        if region != phonenumbers.UNKNOWN_REGION and len(digits) >= length:
            _refuse(
                cell,
                "other_country",
                f"is a number from another country (+{digits[:length]}, {region}), not of Peru (+51)",
            )
    _refuse(cell, "other_country", "has a country code that is not Peru's (+51)")


def _country_of(digits: str) -> str | None:
    import phonenumbers

    try:
        number = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        return None
    if number.country_code == 51 or not phonenumbers.is_valid_number(number):
        return None
    return f"+{number.country_code}, {phonenumbers.region_code_for_number(number)}"


def _refuse(cell: str, problem: NumberProblem, why: str) -> NoReturn:
    # Empty cells look alike; anything else is shown, so that a person can find it in the list.
    if problem == "empty" and not cell.strip():
        raise InvalidNumber("The cell is empty.", problem=problem)
    raise InvalidNumber(f"“{_shown(cell)}” {why}.", problem=problem)


def _shown(cell: str) -> str:
    text = " ".join(cell[: 4 * _LONGEST_SHOWN].split())
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
