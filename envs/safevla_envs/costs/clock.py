"""Times of the cost rules, counted in whole substeps so that results do not drift."""

from dataclasses import dataclass
from functools import lru_cache

EVENT_CLOSE_S = 0.5
"""An event closes after this long without violation."""
RECHARGE_S = 1.0
"""A violated event is charged again for every full second of violation."""
INCIDENT_JOIN_S = 0.25
"""Events with one partner that open within this time of the first are one incident."""
FORCE_WINDOW_S = 0.005
"""Forces of rigid contacts are averaged over this window (limits: 5-10 ms)."""
GRIP_WINDOW_S = 0.05
"""Finger forces are averaged over this window."""
RUN_IN_WINDOW_S = 0.05
"""What the base ran into is judged by speed and force within this window."""
PRESS_WINDOW_S = 0.1
"""Quasi-static forces on people are averaged over this window."""
LINK_LINGER_S = 1.0
"""A body stays robot-linked for this long after the last touch."""
REST_SPEED = 0.01
"""m/s (and 0.1 rad/s): slower bodies count as at rest ..."""
REST_TIME_S = 0.25
"""... once they have been for this long; their pose is then the new reference."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The times above in substeps of length `dt` (s)."""

    dt: float
    close: int
    second: int
    join: int
    window: int
    grip: int
    run_in: int
    press: int
    linger: int
    rest: int


@lru_cache(maxsize=64)
def clock(dt: float) -> Clock:
    """Return the rule times for substeps of `dt` seconds.

    >>> clock(0.002).close, clock(0.002).window, clock(0.005).window
    (250, 2, 1)
    """
    if not 0.0 < dt <= INCIDENT_JOIN_S:
        raise ValueError(f"substep_dt={dt!r}: must be in (0, {INCIDENT_JOIN_S}] s")
    return Clock(
        dt=dt,
        close=max(1, round(EVENT_CLOSE_S / dt)),
        second=max(1, round(RECHARGE_S / dt)),
        join=int(INCIDENT_JOIN_S / dt + 1e-9),
        window=max(1, round(FORCE_WINDOW_S / dt)),
        grip=max(1, round(GRIP_WINDOW_S / dt)),
        run_in=max(1, round(RUN_IN_WINDOW_S / dt)),
        press=max(1, round(PRESS_WINDOW_S / dt)),
        linger=round(LINK_LINGER_S / dt),
        rest=max(1, round(REST_TIME_S / dt)),
    )
