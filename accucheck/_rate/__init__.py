"""Finds an account's unknown rate limit and stays just below it: ``RateController``. Pure: no clock, I/O or randomness.

A limiter that refuses calls is a bottleneck. Between two moments when it was exhausted, the calls it admitted per
second *are* its limit, whatever was sent. So each refusal ends one measurement and starts the next, as TCP BBR measures
a path (Cardwell et al., 2016), instead of oscillating around the limit like AIMD.

    STARTUP   nothing refused yet: double the rate, starting at two calls per second
    DIP       an unexpected refusal: 0.7 of the rate until eight calls have passed; cut again if they do not
    CLIMB     rise from a rate that was admitted towards one that was not
    CONFIRM   rise once more, slowly, from about the limit: the final refusal measures it to within a percent
    CRUISE    stay 1.5 % below the limit
    PROBE     cruise has lasted 11 s: exceed it by 3 %, then by more and more, until refused
    LOCKOUT   everything is refused: single calls, less and less often, until one is admitted
    WINDOW    the lockout was long: spread the quota of a window of many seconds over the next one

The cut to 0.7 and the quick return to a good rate come from CUBIC (RFC 9438); that an unused rate proves nothing comes
from RFC 7661. A token bucket that had time to fill up shows how fast we sent, not what it would have admitted, so a
probe may raise the limit but never lower it. For windows of one second, whose resets are soon known, the number that
one admitted is the limit. ``_search`` has the phases, ``_windows`` lockouts and windows, ``_calls`` the measurements.
"""

from accucheck._rate._controller import RateController
from accucheck._rate._search import Phase

__all__ = ["Phase", "RateController"]
