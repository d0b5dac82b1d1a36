"""What calls cost: one model for plans, forecasts, progress, caps and statements. Pure.

The vendor publishes no price list and sends no invoice with its replies, so a cost is an estimate: the prices are the
caller's, and whether a reply is charged is what the status table knows (``Row.charge``), none of it confirmed by the
vendor. Money is decimal, in whatever currency the prices are in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias

import msgspec

from accucheck._errors import ConfigurationError
from accucheck._statuses import Charge, rows

__all__ = ["Cost", "Money", "Prices", "forecast", "money", "spent"]

Money: TypeAlias = Decimal | int | float | str
"""An amount; a float is taken as it is written, so that 0.1 is a tenth."""

_CHARGES: Final[Mapping[str, Charge]] = {row.name: row.charge for row in rows()}


def money(name: str, amount: Money) -> Decimal:
    """Return an amount of 0 or more. Raises ConfigurationError."""
    try:
        exact = Decimal(str(amount))
    except InvalidOperation:
        exact = Decimal("NaN")
    if isinstance(amount, bool) or not exact.is_finite() or exact < 0:
        raise ConfigurationError(
            f"{name} must be an amount of money, 0 or more, such as 0.005, not {amount!r}"
        )
    return exact


class Prices:
    """What one call costs by what it brings, 0 or more each."""

    __slots__ = ("answer", "pending", "refused")

    def __init__(self, answer: Money, *, pending: Money = 0, refused: Money = 0) -> None:
        """``answer`` is for yes and no alike; ``pending`` for PENDING and "checking", ``refused`` for the rest.

        Raises:
            ConfigurationError: An amount is negative or not a number.
        """
        self.answer: Final = money("the price of an answer", answer)
        self.pending: Final = money("the price of a PENDING", pending)
        self.refused: Final = money("the price of a refusal", refused)

    @property
    def dearest(self) -> Decimal:
        """The most that one call can cost."""
        return max(self.answer, self.pending, self.refused)

    @property
    def unit(self) -> Decimal:
        """The largest amount of which every price is a multiple; 0 if all are 0."""
        prices = (self.answer, self.pending, self.refused)
        places = max(0, *(-int(price.normalize().as_tuple().exponent) for price in prices))
        return Decimal(math.gcd(*(int(price.scaleb(places)) for price in prices))).scaleb(-places)

    def _likely(self, charge: Charge) -> Decimal:
        """Return what a call with this outcome probably costs."""
        return {"answer": self.answer, "pending": self.pending, "refusal": self.refused}.get(
            charge, Decimal(0)
        )

    def _at_most(self, charge: Charge) -> Decimal:
        """Return what it costs if every doubt goes against us."""
        return self.dearest if charge == "unknown" else self._likely(charge)


class Cost(msgspec.Struct, frozen=True):
    """An estimate."""

    likely: Decimal
    """By the status table; calls whose answer was lost are taken to be free."""
    at_most: Decimal
    """If those calls were charged, too."""


def spent(replies: Mapping[str, int], prices: Prices) -> Cost:
    """Return the cost of calls, counted by the name of their row in the status table."""
    likely = sum((prices._likely(_CHARGES[name]) * count for name, count in replies.items()), Decimal(0))
    at_most = sum((prices._at_most(_CHARGES[name]) * count for name, count in replies.items()), Decimal(0))
    return Cost(likely, at_most)


def forecast(
    numbers: int, prices: Prices, *, sampled: int = 0, replies: Mapping[str, int] | None = None
) -> Cost:
    """Return the cost of asking for ``numbers`` more numbers.

    ``replies`` are those to ``sampled`` numbers that are settled already: the rest is taken to be like them. At most,
    every number is answered, and charged, besides what the sample needed per number of other calls. Without
    a sample every number is taken to be answered at once.
    """
    every = prices.answer * numbers
    if not sampled or replies is None:
        return Cost(every, every)
    cost = spent(replies, prices)
    answers = sum(count for name, count in replies.items() if _CHARGES[name] == "answer")
    others = cost.at_most - prices.answer * answers
    return Cost(cost.likely * numbers / sampled, every + others * numbers / sampled)
