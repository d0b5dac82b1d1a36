"""The controller's figures, each with what it bought in the simulations of tests/unit/test_rate.py."""

from typing import Final

START: Final = 2.0
"""Calls per second at first. Gentle: a limit of one call a second is met after two or three."""
STARTUP_DOUBLING: Final = 1.6
"""Seconds in which startup doubles: 150 calls/s and 350 calls made after 10 s, so that a minute's quota of
20/s is not gone before it is understood, and 500/s is reached at 12 s."""
SURE_RATE: Final = 150.0
SURE_DOUBLING: Final = 1.0
"""Beyond 150 calls/s startup doubles every second."""
RISKED_CALLS, RISKED_SHARE = 8.0, 0.02
"""When a limit is met, all calls in flight may be lost: startup keeps them under 8 + 2 % of the admitted."""
STARTUP_CUT: Final = 0.75
"""After startup's refusal: about what its last second delivered, the rate having doubled in it (0.72)."""
CUT: Final = 0.7
"""CUBIC's beta: two cuts find a limit that has halved (0.7 × 0.7 = 0.49) at the price of two refusals."""
DIP_CALLS: Final = 8
"""Calls in a row that must pass before a cut rate counts as good: at half the limit one in four fails."""
CRUISE_SHARE: Final = 0.985
"""Cruise rate over measured limit: 1.5 % is what jitter and the error of the measurement need."""
WINDOW_SHARE: Final = 0.995
"""The same for a window of a second, which counts exactly."""
CLIMB_DOUBLING: Final = 2.0
"""Seconds in which a climb would double: from the cut back to the rate that was refused in a second."""
CRUISE_SECONDS: Final = 11.0
"""Cruise between probes: a stable limit of 20/s is refused once in 11 to 13 s, 0.4 %."""
SHORT_CRUISE_SECONDS: Final = 3.0
"""Cruise while the limit is known roughly only."""
LONG_CRUISE_SECONDS: Final = 40.0
PATIENT_PROBES: Final = 5
"""Probes refused in a row before cruises grow longer, up to 40 s: a limit that has not moved for a minute."""
PROBE_EXCESS: Final = 0.03
PROBE_DOUBLING: Final = 0.7
"""A probe begins 3 % over cruise and doubles that every 0.7 s: twice the limit after 4 s (beyond
WIDE_EXCESS it doubles half as fast, lest a limit that was found be overshot)."""
FIRST_PROBE_GAIN: Final = 0.5
PROBE_GAIN: Final = 0.2
"""How far a refused probe moves the estimate towards the rate that was refused: cruise creeps up on the
limit and finds it in few steps, and a deep bucket, which lets a probe pass for a while, does not fool it."""
COARSE_RATE: Final = 100.0
"""Below 100 calls/s a probe overshoots by whole calls, so what it was refused at says less."""
WIDE_EXCESS: Final = 0.6
"""A probe refused at more than 60 % over the old limit has found a new one: measure afresh."""
PACE_CALLS: Final = 20.0
"""Phases last their seconds at 20 calls/s and more, and as many calls as at 20/s below: evidence is calls."""
HOLD_SECONDS: Final = 0.04
HOLD_CALLS: Final = 1.5
"""A hold after a refusal: 40 ms (a second's window exhausted by a probe turns about then), and time enough
for a token bucket to have a token."""
OUTAGE_GROWTH: Final = 2.0
OUTAGE_SECONDS: Final = 5.0
OUTAGE_SHARE: Final = 0.05
"""Tries in an outage come twice as far apart each, up to 5 s or 5 % of the outage so far."""
LONG_OUTAGE_SECONDS: Final = 2.5
LONG_OUTAGE_CALLS: Final = 6.0
"""An outage beyond 2.5 s and six calls' time: a window of many seconds."""
BUCKET_CALLS: Final = 4.0
"""A try refused when four calls' time has passed was not refused by a token bucket, but by a window."""
WINDOWS_REMEMBERED: Final = 3
"""Exhaustions without a sign of a window after which the limiter counts as a token bucket again."""
LONGEST_WINDOW: Final = 300.0
FEW_CALLS: Final = 8
MEASURED_CALLS: Final = 50
"""A measurement over fewer than 8 calls says nothing, over 50 it is good to 2 %."""
CHANCE_SHARE: Final = 0.0025
"""A refusal in 400 calls is a chance that we take, not a reason to cruise more slowly."""
SETTLED: Final = 4.0
"""Latencies that a measurement must last: less, and the calls in flight at its ends count for too much."""
SATURATED: Final = 0.8
"""The rate grows only while this share of it is used (BBR: app-limited samples prove nothing)."""
LONGEST_STEP: Final = 120.0
"""Seconds between two looks at the clock beyond which the clock has jumped."""
LONGEST_RETRY_AFTER: Final = 600.0
