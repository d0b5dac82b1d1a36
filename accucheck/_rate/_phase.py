"""The phases of the search for a limit."""

from enum import Enum

__all__ = ["Phase"]


class Phase(Enum):
    """What the controller is doing; the controller's module tells the story."""

    STARTUP = "startup"
    DIP = "dip"
    CLIMB = "climb"
    CRUISE = "cruise"
    PROBE = "probe"
    OUTAGE = "lockout"
    WINDOW = "window"
