"""Find an account's unknown rate limit and stay just under it: ``RateController``. Pure: no clock, no I/O, no chance.

A limiter that refuses calls is a bottleneck. Between two moments at which it was exhausted, the calls it admitted per
second *are* its limit, whatever was sent. So each refusal ends one measurement and begins the next, in the way TCP BBR
measures a path (Cardwell et al., 2016), instead of sawing up and down around the limit as AIMD does.

    STARTUP   nothing was refused yet: double the rate, from two calls a second
    DIP       an unexpected refusal: 0.7 of the rate until eight calls have passed; cut again if they do not
    CLIMB     rise from a rate that passed towards one that did not
    CONFIRM   rise once more, slowly, from about the limit: the refusal at the end measures it to a percent
    CRUISE    1.5 % under the limit
    PROBE     cruise has lasted 11 s: exceed it by 3 %, then by more and more, until refused
    LOCKOUT   everything is refused: single calls, less and less often, until one passes
    WINDOW    the lockout was long: spread the quota of a window of many seconds over the next one

The cut to 0.7 and the quick return to a good rate are CUBIC's (RFC 9438); that a rate which is not used up proves
nothing is RFC 7661's. A token bucket that had time to fill up says how fast we sent, not what it would have admitted:
so a probe may raise the limit, never lower it. For windows of a second, whose resets are soon known, what one admitted
is the limit. ``_search`` holds the phases, ``_windows`` lockouts and windows, ``_calls`` what is measured.
"""

from accucheck._rate._controller import RateController
from accucheck._rate._search import Phase

__all__ = ["Phase", "RateController"]
