"""Which national numbers were seen, for a list of any length in fixed memory."""

from __future__ import annotations

__all__ = ["DistinctNumbers"]

FIRST_MOBILE = 900_000_000
MOBILES = 100_000_000


class DistinctNumbers:
    """A set of national numbers: one bit for each of Peru's possible mobiles, a plain set for the few others.

    The bits are 12.5 MB of address space, of which the system gives only the pages that are touched.
    """

    def __init__(self) -> None:
        self._mobiles = bytearray(MOBILES // 8)
        self._others: set[int] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> bool:
        """Add ``number``; return whether it is new."""
        place = number - FIRST_MOBILE
        if 0 <= place < MOBILES:
            byte, bit = place >> 3, 1 << (place & 7)
            if self._mobiles[byte] & bit:
                return False
            self._mobiles[byte] |= bit
        elif number in self._others:
            return False
        else:
            self._others.add(number)
        self._count += 1
        return True
