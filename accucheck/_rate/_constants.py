"""The controller's constants, and what each buys in the simulations of tests/unit/test_rate.py."""

from typing import Final

# Startup

START: Final = 2.0
"""Calls per second at first. Gentle: a limit of one call a second is met after two or three."""
START_CALLS: Final = 5
START_DOUBLING: Final = 0.5
"""Seconds in which the first five calls double the rate: four go in the first second."""
SPRINT_DOUBLING: Final = 0.2
SPRINT_LATENCIES: Final = 2.0
"""Then it doubles every 0.2 s, or every two latencies: limits up to 500/s are met within 3 s. Every second saved is
worth 1.7 % of the limit over a list of 5,500 numbers at 100/s."""
SPRINT_CALLS: Final = 330
REST: Final = 3.0
REST_UNTIL: Final = 10.0
RESUME: Final = 150.0
"""The sprint ends after 330 calls that were all admitted. If less than 10 s have passed, startup rests at 3 calls/s
until then and resumes at 150: a quota of many seconds should not be gone before it is understood."""
RESUME_DOUBLING: Final = 0.5
FLOOR_START: Final = 20.0
"""Calls per second at first if an earlier run was not refused at more than twice that. It sprints to that run's rate
without a rest: an account without a limit is not searched again, and a limit that is new is met as by any sprint."""
RISKED_CALLS, RISKED_SHARE = 8.0, 0.15
"""When a limit is met, all calls in flight may be refused: startup keeps them under 8 + 15 % of the admitted."""
STARTUP_CUT: Final = 0.5
"""After startup's refusal: a sprint meets a bucket of a tenth of a second's calls at twice its limit."""

# Cuts and climbs

CUT: Final = 0.7
"""CUBIC's beta: two cuts find a limit that has halved (0.7 × 0.7 = 0.49) at the price of two refusals."""
DIP_CALLS: Final = 8
"""Calls in a row that must pass before a cut rate counts as good: at half the limit one in four fails."""
CLIMB_DOUBLING: Final = 2.0
"""Seconds in which a climb would double: from the cut back to the rate that was refused in a second."""
CONFIRM_DOUBLING: Final = 14.0
"""The same for the slow climb that measures, 5 % a second: refused a second after it has passed 100/s, so
that 100 calls are measured, and 4 % over the limit."""
CONFIRM_EXCESS: Final = 0.2
"""A slow climb that passes at 20 % over the cruise becomes a probe: the limit has risen. Without it, a limit that
doubled during the climb was reached half a minute later."""
WINDOW_DOUBLING: Final = 28.0
"""In windows of a second, that count exactly: at 2.5 % a second the window refused holds 1 or 2 % too much."""
WINDOW_CLIMB: Final = 0.985
"""What such a climb says of the limit, as a share of the rate refused: the window's mean rate, half a second
of growth before its last."""

# Cruise

CRUISE_SHARE: Final = 0.985
"""Cruise rate over measured limit: 1.5 % is what jitter and the error of the measurement need."""
WINDOW_SHARE: Final = 0.995
"""The same for a window of a second, which counts exactly."""
CRUISE_SECONDS: Final = 11.0
"""Cruise between probes: a stable limit of 20/s is refused once in 13 s, 0.4 %. A limit that has doubled just
after a probe is found 11 s later at the latest, and reached within 15."""
SHORT_CRUISE_SECONDS: Final = 3.0
"""Cruise while the limit is known roughly only."""
LONG_CRUISE_SECONDS: Final = 40.0
PATIENT_PROBES: Final = 5
PATIENCE: Final = 1.3
"""After five probes that were refused in a row each cruise is 1.3 times as long as the last, up to 40 s: a
limit that has not moved for a minute."""
CHANCE_SHARE: Final = 0.0025
CHANCE_STEP: Final = 0.99
"""A refusal in 400 calls may be chance: it costs 1 % of the limit at most, and no dip."""
WINDOW_STEP: Final = 0.97
"""A cruise refused at the end of a window was 1 or 2 % too fast: it is lowered by 3 % at most."""

# Probes

PROBE_EXCESS: Final = 0.03
PROBE_DOUBLING: Final = 0.7
"""A probe begins 3 % over cruise and doubles that every 0.7 s: twice the limit after 4 s (beyond
WIDE_EXCESS it doubles half as fast, so that a new limit is not overshot by far)."""
WIDE_EXCESS: Final = 0.6
"""A probe refused at more than 60 % over the old limit has found a new one: measure afresh."""
SURE_LIMIT: Final = 50.0
"""From 50 calls/s on a probe is followed by a slow climb, which costs one refusal more in 13 s (0.15 % at
50/s) and finds the limit to 1 %: without it 100 and 500/s were used to 92 and 94 %."""
BRUSH_EXCESS: Final = 0.08
BRUSH_CALLS: Final = 3.0
"""A probe of windows refused at less than 8 %, or 3 calls, over the cruise found the limit where it was."""

# Holds and lockouts

HOLD_SECONDS: Final = 0.04
HOLD_CALLS: Final = 1.5
"""A hold after a refusal: time enough for a token bucket to have a token, so that a second refusal tells a
window. A longer one would let a shallow bucket fill up, and spoil the measurement."""
LATE_CUTS: Final = 2
"""Further cuts before a lockout where callers heed them late: the limit may have fallen to a third."""
LOCKOUT_GROWTH: Final = 2.0
LOCKOUT_SECONDS: Final = 5.0
LOCKOUT_SHARE: Final = 0.05
"""Tries in a lockout come twice as far apart each, up to 5 s or 5 % of the lockout so far."""
LONG_LOCKOUT_SECONDS: Final = 2.5
LONG_LOCKOUT_CALLS: Final = 6.0
"""A lockout beyond 2.5 s and six calls' time: a window of many seconds."""
LONGEST_WINDOW: Final = 300.0
SLIDING_SHARE: Final = 0.3
"""How slow a long window that slides may become: 30 % of its limit."""

# Windows of a second

BUCKET_CALLS: Final = 4.0
BUCKET_LATENCIES: Final = 0.5
"""A try refused when four calls' time has passed, and half a latency (calls overtake each other on the way),
was not refused by a token bucket, but by a window."""
FIRST_SUSPICION: Final = 2
SUSPICION: Final = 5
"""Exhaustions that end with the very first try, after which a limiter counts as a token bucket: 2 at first,
5 after one that was a window's."""
VAGUE_RESET: Final = 0.35
"""Seconds between a refused try and one that passed, beyond which they say too little of when a window reset."""
SURE_RESET: Final = 0.1
"""A reset known to 0.1 s is known: calls take about as long to travel."""
RESETS_TO_TRUST: Final = 2
SAME_SECOND: Final = 0.5
"""Two resets that agree are trusted, unless they are less than half a second apart."""
SAME_COUNT: Final = 1.05
"""A window that admitted 5 % more than the next one before a refusal: these are no windows."""
FULL_WINDOW: Final = 0.9
"""A window used up before nine tenths of its second: the limit has fallen to what it has admitted."""

# Measurements

PACE_CALLS: Final = 20.0
"""Phases last their seconds at 20 calls/s and more, and as many calls as at 20/s below: evidence is calls."""
FEW_CALLS: Final = 8
MEASURED_CALLS: Final = 50
"""A measurement over fewer than 8 calls says nothing, over 50 it is good to 2 %."""
SETTLED: Final = 4.0
"""Latencies that a measurement must last: less, and the refusals in flight at its ends count for too much."""
SATURATED: Final = 0.8
"""The rate grows only while this share of it is used (BBR: app-limited samples prove nothing)."""
SATURATED_BUSY: Final = 0.5
"""The same at the start while callers queue: on a busy machine timers come late, and permits are lost to that."""
IDLE_SHARE: Final = 0.05
"""A measurement of which more than 5 % was idle says nothing: after two seconds in which the machine stood still
a limit of 100/s was taken for 72, one of 50/s for 16."""
CALLS_REMEMBERED: Final = 16_384
"""Calls whose moment is remembered: a second of 16,000/s, so that a window's calls can be counted (0.5 MB)."""
LATENCY_GAIN: Final = 1 / 16
"""The weight of one reply in the mean latency."""

# Time

LONGEST_LOOK: Final = 0.03
"""Seconds between two looks that count in full, or two calls' time if that is longer: nobody was sending in
a longer one. The gate looks every 10 ms."""
LONGEST_STEP: Final = 120.0
"""Seconds between two looks at the clock beyond which the clock has jumped."""
LONGEST_RETRY_AFTER: Final = 600.0
