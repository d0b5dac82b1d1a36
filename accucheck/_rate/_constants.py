"""The controller's constants, and the effect of each in the simulations of tests/unit/test_rate.py."""

from typing import Final

# Startup

START: Final = 2.0
"""Calls per second at first. Gentle: a limit of one call per second is reached after two or three."""
START_CALLS: Final = 5
START_DOUBLING: Final = 0.5
"""Seconds in which the first five calls double the rate: four go in the first second."""
SPRINT_DOUBLING: Final = 0.2
SPRINT_LATENCIES: Final = 2.0
"""Then it doubles every 0.2 s or every two latencies, so limits up to 500/s are reached within 3 s."""
SPRINT_CALLS: Final = 330
REST: Final = 3.0
REST_UNTIL: Final = 10.0
RESUME: Final = 150.0
"""The sprint ends after 330 calls that were all admitted. If less than 10 s have passed, startup rests at 3 calls/s
until then and resumes at 150, so that a quota of many seconds is not used up before it is understood."""
RESUME_DOUBLING: Final = 0.5
FLOOR_START: Final = 20.0
"""Calls per second at first if an earlier run was not refused at more than twice that. It sprints to that run's rate
without a rest: an account without a limit is not searched again, and a limit that is new is met as by any sprint."""
RISKED_CALLS, RISKED_SHARE = 8.0, 0.15
"""When a limit is reached, all calls in flight may be refused; startup keeps them under 8 + 15 % of the admitted."""
STARTUP_CUT: Final = 0.5
"""After startup's refusal: a sprint meets a bucket of a tenth of a second's calls at twice its limit."""

# Cuts and climbs

CUT: Final = 0.7
"""CUBIC's beta: two cuts find a limit that has halved (0.7 × 0.7 = 0.49) for two refusals."""
DIP_CALLS: Final = 8
"""Calls in a row that must be admitted before a cut rate counts as good."""
CLIMB_DOUBLING: Final = 2.0
"""Seconds in which a climb doubles the rate, so that it is back at the refused rate within a second."""
CLIMB_SHARE: Final = 0.8
"""The limit after a climb that could not be measured, as a share of the rate refused: on a busy machine the slow climb
from 0.7 took ten seconds."""
CONFIRM_DOUBLING: Final = 14.0
"""The same for the slow climb that measures, 5 % a second, so that about a second of calls is measured."""
CONFIRM_EXCESS: Final = 0.2
"""A slow climb that is still admitted 20 % above cruise becomes a probe, because the limit has risen. Without this, it
would take half a minute longer to reach a limit that doubled during the climb."""
WINDOW_DOUBLING: Final = 28.0
"""In windows of a second, that count exactly: at 2.5 % a second the window refused holds 1 or 2 % too much."""
WINDOW_CLIMB: Final = 0.985
"""What such a climb says about the limit, as a share of the refused rate: the window's mean rate, half a second of
growth earlier."""

# Cruise

CRUISE_SHARE: Final = 0.985
"""Cruise rate over measured limit: 1.5 % allows for jitter and measurement error."""
WINDOW_SHARE: Final = 0.995
"""The same for a window of a second, which counts exactly."""
CRUISE_SECONDS: Final = 11.0
"""Seconds of cruise between probes. If a limit doubles just after a probe, it is found at most 11 s later and reached
within 15."""
SHORT_CRUISE_SECONDS: Final = 3.0
"""Seconds of cruise while the limit is known only roughly."""
LONG_CRUISE_SECONDS: Final = 40.0
PATIENT_PROBES: Final = 5
PATIENCE: Final = 1.3
"""After five refused probes in a row, which means a limit stable for a minute, each cruise is 1.3 times as long as the
last, up to 40 s."""
CHANCE_SHARE: Final = 0.0025
CHANCE_STEP: Final = 0.99
"""One refusal in 400 calls may be chance, so it costs at most 1 % of the limit, and no dip."""
WINDOW_STEP: Final = 0.97
"""A cruise refused at the end of a window was 1 or 2 % too fast: it is lowered by 3 % at most."""

# Probes

PROBE_EXCESS: Final = 0.03
PROBE_DOUBLING: Final = 0.7
"""A probe begins 3 % over cruise and doubles that every 0.7 s: twice the limit after 4 s (beyond
WIDE_EXCESS it doubles half as fast, so that a new limit is not overshot by far)."""
WIDE_EXCESS: Final = 0.6
"""A probe refused at more than 60 % over the old limit has found a new one, which is measured from scratch."""
SURE_LIMIT: Final = 50.0
"""From 50 calls/s, a probe is followed by a slow climb, which costs one more refusal in 13 s and finds the limit to
within 1 %."""
BRUSH_EXCESS: Final = 0.08
BRUSH_CALLS: Final = 3.0
"""With windows, a probe refused less than 8 % or 3 calls above cruise found the limit unchanged."""

# Holds and lockouts

HOLD_SECONDS: Final = 0.04
HOLD_CALLS: Final = 1.5
"""A hold after a refusal, long enough for a token bucket to have a token, so that a second refusal indicates a window.
A longer one would let a shallow bucket fill up and spoil the measurement."""
LATE_CUTS: Final = 2
"""Further cuts before a lockout if callers react late, since the limit may have fallen to a third."""
LOCKOUT_GROWTH: Final = 2.0
LOCKOUT_SECONDS: Final = 5.0
LOCKOUT_SHARE: Final = 0.05
"""The gap between tries in a lockout doubles, up to 5 s or 5 % of the lockout so far."""
LONG_LOCKOUT_SECONDS: Final = 2.5
LONG_LOCKOUT_CALLS: Final = 6.0
"""A lockout longer than 2.5 s and six calls' time means a window of many seconds."""
LONGEST_WINDOW: Final = 300.0
SLIDING_SHARE: Final = 0.3
"""How slow a long sliding window may become: 30 % of its limit."""

# Windows of a second

BUCKET_CALLS: Final = 4.0
BUCKET_LATENCIES: Final = 0.5
"""A try refused after four calls' time and half a latency (calls overtake each other on the way) was refused by a
window, not by a token bucket."""
FIRST_SUSPICION: Final = 2
SUSPICION: Final = 5
"""After this many exhaustions that end with the first try, a limiter counts as a token bucket: 2 at first, 5 after one
of a window."""
VAGUE_RESET: Final = 0.35
"""Seconds between a refused and an admitted try beyond which they do not show when a window reset."""
SURE_RESET: Final = 0.1
"""A reset known to within 0.1 s is known: calls take about as long to travel."""
RESETS_TO_TRUST: Final = 2
SAME_SECOND: Final = 0.5
"""Two resets that agree are trusted, unless they are less than half a second apart."""
SAME_COUNT: Final = 1.05
"""If a window admitted 5 % more than the next one before a refusal, these are not windows."""
FULL_WINDOW: Final = 0.9
"""If a window is used up before nine tenths of its second, the limit has fallen to what it admitted."""

# Measurements

PACE_CALLS: Final = 20.0
"""Phases last their seconds at 20 calls/s and above; below that, as many calls as at 20/s, since calls are evidence."""
FEW_CALLS: Final = 8
MEASURED_CALLS: Final = 50
"""A measurement over fewer than 8 calls means nothing, nor does a window of fewer: one call more or less is too much of
it, and a bucket's tokens at 2 or 3 calls/s come as regularly as windows. Over 50 calls, it is accurate to 2 %."""
SETTLED: Final = 4.0
"""Latencies that a measurement must last; if shorter, the refusals in flight at its ends count too much."""
SATURATED: Final = 0.8
"""The rate grows only while this share of it is used (BBR: app-limited samples prove nothing)."""
SATURATED_BUSY: Final = 0.5
"""The same at the start while callers queue, because late timers on a busy machine lose permits."""
IDLE_SHARE: Final = 0.05
"""A measurement that was idle for more than 5 % of its time means nothing, for example after the machine stood
still."""
CALLS_REMEMBERED: Final = 16_384
"""Calls whose times are remembered, so that a window's calls can be counted: one second at 16,000/s."""
LATENCY_GAIN: Final = 1 / 16
"""The weight of one reply in the mean latency."""

# Time

LONGEST_LOOK: Final = 0.03
"""Seconds between two readings that count in full, or two calls' time if longer; nobody was sending during a longer
gap. The gate reads every 10 ms."""
LONGEST_STEP: Final = 120.0
"""If two readings of the clock are further apart than this many seconds, it has jumped."""
LONGEST_RETRY_AFTER: Final = 600.0
