"""The demo's lead list: made-up leads, as messy as real ones, and the same for the same seed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

__all__ = ["HEADER", "leads", "write_leads"]

HEADER = ["Nº", "Nombre", "Teléfono", "Distrito", "Observación"]

FIRST_NAMES = [
    "José",
    "María",
    "Ñusta",
    "Ángel",
    "Lucía",
    "Íñigo",
    "Rosa",
    "Óscar",
    "Belén",
    "César",
    "Zoë",
    "Iván",
]
LAST_NAMES = [
    "Quispe",
    "Huamán",
    "Núñez",
    "Peña",
    "Yupanqui",
    "Muñoz",
    "Ávila",
    "Cóndor",
    "O'Brien",
    "Güímac",
]
DISTRICTS = [
    "Breña",
    "Jesús María",
    "San Martín de Porres",
    "Rímac",
    "Ancón",
    "Lurín",
    "Áncash; Huaraz",
    "Cañete",
]
NOTES = [
    "",
    "",
    "llamar mañana",
    'dijo "más tarde"',
    "línea 1\nlínea 2",
    "cliente; antiguo",
    "¿habla inglés?",
    "✓",
]

MOBILE_FORMATS: list[Callable[[str], str]] = [
    lambda n: n,
    lambda n: n,
    lambda n: n,
    lambda n: f"+51{n}",
    lambda n: f"51{n}",
    lambda n: f"+51 {n[:3]} {n[3:6]} {n[6:]}",
    lambda n: f"{n[:3]}-{n[3:6]}-{n[6:]}",
    lambda n: f"{n[:3]} {n[3:6]} {n[6:]}",
    lambda n: f"0051{n}",
    lambda n: f"{n}.0",
    lambda n: f" {n} ",
    lambda n: f"(+51) {n[:3]} {n[3:6]} {n[6:]}",
    lambda n: f"tel:+51-{n[:3]}-{n[3:6]}-{n[6:]}",
    lambda n: "".join(chr(ord(digit) + 0xFEE0) for digit in n),  # full-width digits
    lambda n: f"{n[:3]}\u2009{n[3:6]}\u2009{n[6:]}",  # thin spaces
]
LANDLINE_FORMATS: list[Callable[[str], str]] = [
    lambda n: f"(01) {n[:3]}-{n[3:]}",
    lambda n: f"+51 1 {n[:3]}{n[3:]}",
    lambda n: f"01 {n}",
]
INVALID = [
    "",
    "no tiene",
    "98765432",
    "+1 202 555 0143",
    "123",
    "9876543210123",
    "-",
    "987 65X 321",
    "+34 612 345 678",
]


def leads(count: int, seed: int = 7) -> Iterator[list[str]]:
    """Yield ``count`` leads as rows under ``HEADER``: about one in twelve invalid, one in ten a duplicate."""
    chance = Random(seed)
    mobiles: list[str] = []
    for place in range(1, count + 1):
        draw = chance.random()
        if draw < 0.08:
            phone = chance.choice(INVALID)
        elif draw < 0.12:
            phone = chance.choice(LANDLINE_FORMATS)(f"{chance.randrange(2_000_000, 7_999_999)}")
        else:
            if draw < 0.22 and mobiles:
                mobile = chance.choice(mobiles)
            else:
                mobile = f"9{chance.randrange(10_000_000, 99_999_999)}"
                mobiles.append(mobile)
            phone = chance.choice(MOBILE_FORMATS)(mobile)
        name = f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"
        yield [str(place), name, phone, chance.choice(DISTRICTS), chance.choice(NOTES)]


def write_leads(path: Path, count: int, seed: int = 7) -> None:
    """Write ``count`` leads to a new file as Spanish Excel would: semicolons, a byte order mark, CR LF."""
    with path.open("x", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(HEADER)
        writer.writerows(leads(count, seed))
