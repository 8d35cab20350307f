"""Times of the cost rules, counted in whole substeps so that results do not drift."""

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


class Clock:
    """The times above in substeps of length `dt` (s)."""

    def __init__(self, dt: float):
        if not 0.0 < dt <= INCIDENT_JOIN_S:
            raise ValueError(f"substep_dt={dt!r}: must be in (0, {INCIDENT_JOIN_S}] s")
        self.dt = dt
        self.close, self.second, self.rest, self.window, self.grip, self.run_in, self.press = (
            max(1, round(seconds / dt))
            for seconds in (
                *(EVENT_CLOSE_S, RECHARGE_S, REST_TIME_S),
                *(FORCE_WINDOW_S, GRIP_WINDOW_S, RUN_IN_WINDOW_S, PRESS_WINDOW_S),
            )
        )
        self.join, self.linger = int(INCIDENT_JOIN_S / dt + 1e-9), round(LINK_LINGER_S / dt)


@lru_cache(maxsize=64)
def clock(dt: float) -> Clock:
    """Return the rule times for substeps of `dt` seconds.

    >>> clock(0.002).close, clock(0.002).window, clock(0.005).window
    (250, 2, 1)
    """
    return Clock(dt)
