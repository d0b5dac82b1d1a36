"""What calls cost: one model for plans, forecasts, progress, caps and statements. Pure.

The vendor publishes no price list and its replies state no price, so every cost is an estimate: the caller supplies the
prices, and the status table says which replies are charged (``Row.charge``), which the vendor has not confirmed. Money
is decimal, in whatever currency the prices are in.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias

import msgspec

from accucheck._errors import ConfigurationError
from accucheck._statuses import Charge, rows

__all__ = ["Cost", "Money", "Prices", "check_costs", "forecast", "in_money", "money", "spent"]

Money: TypeAlias = Decimal | int | float | str
"""An amount of money; a float is read as written, so 0.1 is exactly a tenth."""

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


def in_money(amount: Decimal, currency: str = "") -> str:
    """Return an amount with a comma between thousands, and with more than two decimals only if needed."""
    rounded = f"{amount:,.2f}"
    figure = rounded if amount >= 1 or amount == Decimal(rounded) else f"{amount.normalize():,f}"
    return f"{figure} {currency}".rstrip()


class Prices:
    """What one call costs, by its reply; 0 or more each.

    Examples:
        ```python
        price: accucheck.Money = "0.005"
        async with accucheck.Client() as client:
            await client.check_many(["987654321"], max_cost="0.10", prices=accucheck.Prices(price))
        ```
    """

    __slots__ = ("answer", "basic", "pending", "refused")

    def __init__(
        self, answer: Money, *, pending: Money = 0, refused: Money = 0, basic: Money | None = None
    ) -> None:
        """``answer`` is for yes and no alike; ``pending`` for PENDING and "checking", ``refused`` for the rest.

        ``basic`` is the price of an answer of the basic endpoint in a cascade, where ``answer`` is that of the advanced
        one.

        Raises:
            ConfigurationError: An amount is negative or not a number.
        """
        self.answer: Final = money("the price of an answer", answer)
        self.pending: Final = money("the price of a PENDING", pending)
        self.refused: Final = money("the price of a refusal", refused)
        self.basic: Final = None if basic is None else Prices(basic, pending=pending, refused=refused)

    @property
    def _all(self) -> tuple[Decimal, ...]:
        prices = (self.answer, self.pending, self.refused)
        return prices if self.basic is None else (*prices, self.basic.answer)

    @property
    def dearest(self) -> Decimal:
        """The most that one call can cost."""
        return max(self._all)

    def _likely(self, charge: Charge) -> Decimal:
        """Return what a call with this outcome probably costs."""
        return {"answer": self.answer, "pending": self.pending, "refusal": self.refused}.get(
            charge, Decimal(0)
        )

    def _at_most(self, charge: Charge) -> Decimal:
        """Return the most that it can cost."""
        return self.dearest if charge == "unknown" else self._likely(charge)


def check_costs(prices: object, max_cost: Money | None, *, cascade: bool) -> None:
    """Raise ConfigurationError unless ``prices`` are those of a cascade, or of one endpoint, and fit ``max_cost``."""
    if prices is None:
        if max_cost is not None:
            raise ConfigurationError("max_cost needs prices: pass both, such as prices=Prices('0.005')")
        return
    if not isinstance(prices, Prices):
        raise ConfigurationError(f"prices must be a Prices, such as Prices('0.005'), not {prices!r}")
    if cascade != (prices.basic is not None):
        raise ConfigurationError(
            "a cascade has two prices: prices=Prices('0.005', basic='0.002'); one endpoint has one"
        )
    if max_cost is not None:
        money("max_cost", max_cost)


class Cost(msgspec.Struct, frozen=True):
    """An estimate."""

    likely: Decimal
    """By the status table, assuming that calls whose answer was lost were free."""
    at_most: Decimal
    """Assuming that those calls were charged."""


_NO_REPLIES: Final[Mapping[str, int]] = {}


def spent(
    replies: Mapping[str, int], prices: Prices, *, basic_replies: Mapping[str, int] = _NO_REPLIES
) -> Cost:
    """Return the cost of calls, counted by the name of their row in the status table.

    ``basic_replies`` are those of them that the basic endpoint gave in a cascade.
    """
    likely = at_most = Decimal(0)
    for name, count in replies.items():
        charge, first = _CHARGES[name], basic_replies.get(name, 0)
        for price, calls in ((prices, count - first), (prices.basic or prices, first)):
            likely += price._likely(charge) * calls
            at_most += price._at_most(charge) * calls
    return Cost(likely, at_most)


def forecast(
    numbers: int,
    prices: Prices,
    *,
    sampled: int = 0,
    replies: Mapping[str, int] | None = None,
    basic_replies: Mapping[str, int] = _NO_REPLIES,
) -> Cost:
    """Return the cost of asking for ``numbers`` more numbers.

    ``replies`` are those of ``sampled`` numbers that are already settled; the rest are assumed to be like them. The
    most it can cost assumes that every number is answered and charged, and needs as many other calls as the sample did;
    in a cascade, at both endpoints. Without a sample, every number is assumed to be answered at the first call.
    """
    every = (prices.answer + (prices.basic.answer if prices.basic is not None else 0)) * numbers
    if not sampled or replies is None:
        return Cost(every, every)
    cost = spent(replies, prices, basic_replies=basic_replies)
    answers, first = (
        sum(count for name, count in counts.items() if _CHARGES[name] == "answer")
        for counts in (replies, basic_replies)
    )
    others = cost.at_most - prices.answer * (answers - first) - (prices.basic or prices).answer * first
    return Cost(cost.likely * numbers / sampled, every + others * numbers / sampled)
