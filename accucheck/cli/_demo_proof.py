"""The demo's judge: reads the output with the standard library and compares each row with the truth.

It shares nothing with the writer of the output but the file, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.sandbox import request_id, truth

__all__ = ["Proof", "prove"]


@dataclass(kw_only=True)
class Proof:
    """What the comparison found."""

    rows: int = 0
    """Rows of the input."""
    answers: int = 0
    """Rows of the output with an answer."""
    wrong: int = 0
    """Answers that differ from the truth."""
    invalid: int = 0
    """Rows rightly told to be no Peru number."""
    misjudged: int = 0
    """Rows told to be no Peru number that are one, or the other way round."""
    misplaced: int = 0
    """Rows that are missing, repeated, out of place or changed."""

    @property
    def holds(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.wrong or self.misjudged or self.misplaced)


def prove(leads: Path, checked: Path, seed: int) -> Proof:
    """Compare an output with its input, row by row, and with what the sandbox knows."""
    proof = Proof()
    inputs, outputs = _rows(leads), _rows(checked)
    header = next(inputs)
    phone = header.index("Teléfono")
    if next(outputs)[: len(header)] != header:
        proof.misplaced += 1
    for own in inputs:
        proof.rows += 1
        row = next(outputs, None)
        if row is None or row[: len(own)] != own:
            proof.misplaced += 1
            continue
        _judge(proof, own[phone], row[len(own) :], seed)
    proof.misplaced += sum(1 for _ in outputs)
    return proof


def _judge(proof: Proof, phone: str, results: list[str], seed: int) -> None:
    whatsapp, status_update, business_user, avatar, _, status, _, request = results
    try:
        number = normalize(phone)
    except InvalidNumber:
        if status == "INVALID_NUMBER" and not whatsapp:
            proof.invalid += 1
        else:
            proof.misjudged += 1
        return
    if status == "INVALID_NUMBER":
        proof.misjudged += 1
    if status != "OK":
        proof.wrong += bool(whatsapp)
        return
    proof.answers += 1
    true = truth(number, seed)
    said = (whatsapp, status_update.replace("-", ""), business_user, avatar, request)
    expected = (
        true["whatsapp"],
        true.get("status_update", ""),
        true.get("business_user", ""),
        true.get("avatar", ""),
        request_id(number, seed),
    )
    proof.wrong += said != expected


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.reader(file, delimiter=";")
