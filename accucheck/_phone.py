"""Text of a lead list -> the national number of a Peru phone, or the reason why it cannot be one.

A national number is an integer: Peru has no leading zeros (mobiles are 9 and eight digits; fixed lines
are eight digits, area code included), so it is exact, hashes fast and is the ledger's key.

Nearly every row of a list is nine ASCII digits and is settled by one comparison. The rest goes through
four steps, each a small function below: *plain* (Unicode and spreadsheet dress off), *unwrap* (``tel:``,
``wa.me/``, "cel.", "anexo 12" off), *digits*, *national* (prefixes off, length and area checked).
libphonenumber has the word on which fixed lines exist and which country another number belongs to. It is
not asked to read the text: it takes ``051987654321``, ``987654321.0`` and ``9.87654321E8`` wrong, and
turns letters into digits.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NoReturn
from urllib.parse import unquote

from accucheck._errors import InvalidNumber, NumberProblem, mask

__all__ = ["e164", "mask", "normalize"]

COUNTRY_CODE: Final = "51"

_E164_MOBILE = re.compile(r"\+?51(9[0-9]{8})").fullmatch

_LONGEST_CELL = 200
_LONGEST_SHOWN = 32

# Spreadsheets: '987654321 (text mark), ="987654321" (kept from being a number), "987654321" (quoted twice).
_DRESS = " \t\r\n\v\f'\"`´‘’‚‛“”„«»="
_NOTHING = frozenset({"", "na", "n/a", "#n/a", "nan", "nil", "none", "null", "<na>", "s/n", "undefined"})

# 987654321.0 and 987,654,321.00; 987654321,00 where the comma is the decimal mark. The decimal mark is never
# also the group mark: 14.56.78.00 is a number in pairs.
_DECIMAL = re.compile(r"([+\d][\d, ]*)\.0{1,2}|([+\d][\d. ]*),0{1,2}")
_SCIENTIFIC = re.compile(r"(\d)(?:[.,](\d+))?[eE](\+?)(\d{1,2})")

_TEL_URI = re.compile(r"tel:(?P<number>[^;]*)(?P<parameters>(?:;.*)?)", re.IGNORECASE | re.DOTALL)
_PHONE_CONTEXT = re.compile(r";phone-context=(\+[\d.()-]+)", re.IGNORECASE)
_WHATSAPP_LINK = re.compile(
    r"(?:https?://)?(?:www\.)?(?:wa\.me/|(?:api|web)\.whatsapp\.com/send/?\?phone=)(\+?[\d ]+)(?:[/?&#].*)?",
    re.IGNORECASE | re.DOTALL,
)
_WHATSAPP_ID = re.compile(r"(?:whatsapp:)?(\+?\d+)(?:@(?:s\.whatsapp\.net|c\.us))?", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:(?:n[°º]|nro|num|n[uú]mero|tel[eé]fono|telf?|tlf|fono|fijo|celular|cel|m[oó]vil|mobile|phone|whatsapp|wsp|wa)"
    r"\s*[.:°º#-]*\s*)+(?=[+(\d])",
    re.IGNORECASE,
)
_EXTENSION = re.compile(
    r"[\s,;]*(?:extensi[oó]n|extn?|anexo|anx|interno|int|x)\s*[.:#°-]*\s*\d{1,6}\s*$", re.IGNORECASE
)

_BETWEEN_DIGITS = " \t\r\n\v\f-–—.,/\\()[]_·•+*#~:;|&"
_DROP_SEPARATORS = str.maketrans("", "", _BETWEEN_DIGITS)


def normalize(text: str | float | None, *, mobile_only: bool = False) -> int:
    """Return the national number that ``text`` holds.

    Accepts what lead lists hold: ``987654321``, ``+51 987 654 321``, ``0051…``, ``51…``, ``051…``,
    ``(01) 456-7890``, ``tel:`` URIs, WhatsApp links and ids, a label before and an extension behind, any
    Unicode digits and spaces, and what spreadsheets make of a number (``987654321.0``,
    ``9.87654321E8``, ``9,87654321E+08``, ``'987654321``). A number that a spreadsheet has *rounded*
    (``9.88E+08``) is refused: its digits are gone, and a call would be paid for somebody else's number.
    Integers and floats are read like their text, None and NaN like an empty cell.

    Args:
        text: One cell.
        mobile_only: Refuse fixed lines (WhatsApp Business uses them, so they are allowed otherwise).

    Returns:
        Nine digits starting with 9 for a mobile, eight digits (area code included) for any other line.

    Raises:
        InvalidNumber: It cannot be a Peru number; the message says why and ``problem`` says it in a word.
    """
    if type(text) is str:
        # Methods of str alone: this is paid once a row (0.2 µs).
        if len(text) == 9 and text[0] == "9" and text.isascii() and text.isdigit():
            return int(text)
        if mobile := _E164_MOBILE(text):
            return int(mobile[1])
    cell = _as_text(text)
    national = _read(cell)
    if mobile_only and national < 900_000_000:
        _refuse(cell, "not_mobile", "is a fixed line, and only mobiles are wanted")
    return national


def e164(national: int) -> str:
    """Return the number with its country code, as ``+51987654321`` (ITU-T E.164)."""
    return f"+{COUNTRY_CODE}{national}"


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)  # NaN and pandas' NA read "nan" and "<NA>"


def _read(cell: str) -> int:
    text = _plain(cell)
    if len(text) > _LONGEST_CELL:
        _refuse(cell, "too_long", f"has {len(text)} characters, which is no phone number")
    if text.lower() in _NOTHING:
        _refuse(cell, "empty", "holds no number")
    text, extension = _unwrap(_undo_spreadsheet(cell, text))
    digits = text.translate(_DROP_SEPARATORS)
    if not digits:
        _refuse(cell, "empty", "holds no number")
    if len(digits) >= 16 and not extension and _several(text):
        _refuse(cell, "several", "holds more than one number; give each its own row")
    if not (digits.isascii() and digits.isdigit()):
        _refuse_characters(cell, digits)
    return _national(cell, digits, international="+" in text[: text.index(digits[0])])


def _plain(cell: str) -> str:
    """Fold Unicode to the ASCII that it stands for, and take spreadsheet quotes off."""
    if not cell.isascii():
        folded = unicodedata.normalize("NFKC", cell[: 4 * _LONGEST_CELL])
        cell = "".join(map(_plain_character, folded)) + cell[4 * _LONGEST_CELL :]
    return cell.replace("\0", "").strip(_DRESS)


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    match unicodedata.category(character):
        case "Nd":  # NFKC folds full-width digits, not the digits of other scripts
            return str(unicodedata.decimal(character))
        case "Cf" | "Mn" | "Me" | "Cc":  # zero-width characters, direction marks, soft hyphens, keycaps
            return ""
        case "Zs" | "Zl" | "Zp":
            return " "
        case "Pd":
            return "-"
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
                "was rounded by a spreadsheet, its digits are lost: export the column as text",
            )
        return digits + "0" * missing
    return text


def _unwrap(text: str) -> tuple[str, bool]:
    """Return the text without URI, label and extension, and whether there was an extension."""
    if uri := _TEL_URI.fullmatch(text):
        number = unquote(uri["number"]).strip()
        context = _PHONE_CONTEXT.match(uri["parameters"]) or _PHONE_CONTEXT.search(uri["parameters"])
        if context and not number.startswith("+"):
            number = context[1] + number
        if "+" in number or context or uri["parameters"]:
            return number, ";ext=" in uri["parameters"].lower()
        text = number  # "Tel: 987654321", written by a person
    elif link := _WHATSAPP_LINK.fullmatch(text) or _WHATSAPP_ID.fullmatch(text):
        return link[1], False
    if label := _LABEL.match(text):
        text = text[label.end() :]
    extension = _EXTENSION.search(text)
    return (text[: extension.start()], True) if extension else (text, False)


def _several(text: str) -> bool:
    """Whether the digit groups can be cut into two numbers that would both pass alone."""
    groups = re.findall(r"\d+", text)
    if len(groups) == 1 and len(groups[0]) == 18:
        groups = [groups[0][:9], groups[0][9:]]
    return any(
        _passes("".join(groups[:cut])) and _passes("".join(groups[cut:])) for cut in range(1, len(groups))
    ) or (len(groups) > 2 and all(map(_passes, groups)))


def _passes(digits: str) -> bool:
    try:
        _national(digits, digits, international=False)
    except InvalidNumber:
        return False
    return True


def _national(cell: str, digits: str, *, international: bool) -> int:
    """Take the prefixes off and check what is left."""
    international = international or digits.startswith("00")
    digits = digits.lstrip("0")  # one zero is the trunk prefix; +0 and 051 are slips that lists are full of
    if international and digits and not digits.startswith(COUNTRY_CODE):
        _refuse_country(cell, digits)
    # 51 is also the area code of Puno, so eight digits that start with it are a whole number, unless a plus
    # or 00 says otherwise. +51 twice is what a form makes that puts its own in front.
    while digits.startswith(COUNTRY_CODE) and (international or len(digits) > 9):
        digits, international = digits[2:].lstrip("0"), False
    if len(digits) == 9 and digits[0] == "9":
        return int(digits)
    if len(digits) == 8 and digits[0] != "9":
        return _fixed(cell, digits)
    return _refuse_length(cell, digits)


def _fixed(cell: str, digits: str) -> int:
    # Imported here: the import takes longer than a small list takes to check, and most lists are mobiles.
    import phonenumbers

    number = phonenumbers.PhoneNumber(country_code=51, national_number=int(digits))
    if not phonenumbers.is_valid_number(number):
        area = "1" if digits[0] == "1" else digits[:2]
        _refuse(cell, "unknown_area", f"is no fixed line of Peru: area code {area} has no such number")
    return int(digits)


def _refuse_length(cell: str, digits: str) -> NoReturn:
    length = len(digits)
    if not digits:
        _refuse(cell, "too_short", "holds a prefix and no number")
    if length in (6, 7) and digits[0] != "9":
        _refuse(cell, "unknown_area", "looks like a fixed line without its area code (01 for Lima)")
    if length < 9:
        _refuse(cell, "too_short", f"is too short: it has {length} of the 9 digits of a mobile")
    if length > 9 and (country := _country_of(digits)):
        _refuse(cell, "other_country", f"looks like a number of another country ({country})")
    if length > 9:
        _refuse(cell, "too_long", f"is too long: it has {length} digits where a mobile has 9")
    _refuse(cell, "not_peruvian", "has 9 digits but does not start with 9, as mobiles of Peru do")


def _refuse_country(cell: str, digits: str) -> NoReturn:
    import phonenumbers

    for length in (1, 2, 3):
        region = phonenumbers.region_code_for_country_code(int(digits[:length] or 0))
        if region != phonenumbers.UNKNOWN_REGION and len(digits) >= length:
            _refuse(
                cell,
                "other_country",
                f"is a number of another country (+{digits[:length]}, {region}), not of Peru (+51)",
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


def _refuse_characters(cell: str, digits: str) -> NoReturn:
    if any(map(str.isdigit, digits)):
        _refuse(cell, "letters", "holds letters or signs that are not part of a phone number")
    _refuse(cell, "letters", "is text, not a phone number")


def _refuse(cell: str, problem: NumberProblem, why: str) -> NoReturn:
    # Empty cells all read alike; anything else is shown, so that a person finds it in the list.
    if problem == "empty" and not cell.strip():
        raise InvalidNumber("The cell is empty.", problem=problem)
    raise InvalidNumber(f"“{_shown(cell)}” {why}.", problem=problem)


def _shown(cell: str) -> str:
    text = " ".join(cell[: 4 * _LONGEST_SHOWN].split())
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
