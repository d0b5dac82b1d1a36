"""How long one attempt may take, phase by phase."""

from __future__ import annotations

import math

import msgspec

from accucheck._errors import ConfigurationError
from accucheck._help import with_fields

__all__ = ["Timeouts"]


@with_fields
class Timeouts(msgspec.Struct, frozen=True):
    """Limits of one HTTP attempt, in seconds: positive and finite, for a call that never ends never settles.

    Raises ConfigurationError for anything else.
    """

    connect: float = 10.0
    """Finding the address, connecting, and the TLS handshake, together."""
    read: float = 30.0
    """Silence: the longest wait for the next byte of the reply."""
    attempt: float = 60.0
    """The whole attempt, connecting included."""

    def __post_init__(self) -> None:
        for phase in self.__struct_fields__:
            seconds = getattr(self, phase)
            if (
                isinstance(seconds, bool)
                or not isinstance(seconds, int | float)
                or not 0 < seconds < math.inf
            ):
                raise ConfigurationError(
                    f"The {phase} timeout must be a positive, finite number of seconds, not {seconds!r}."
                )
