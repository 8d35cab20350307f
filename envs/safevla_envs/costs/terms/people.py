"""Terms about people: speed and separation, power and force limiting (ISO/TS 15066).

Separation counts only while the robot itself closes on the person; contact only when the person did
not run into a robot that kept away (see `movers.py`).
"""

from typing import Any

import numpy as np

from safevla_envs.costs.terms.view import Reading, View


def protective_distance(
    closing_robot: np.ndarray | float,
    closing_person: np.ndarray | float,
    *,
    reaction: float,
    braking: float,
) -> Any:
    """Return the protective separation distance S_p in m, ISO/TS 15066 5.5.4.2.3 with C = Z = 0.

    Floats or arrays.

    Args:
        closing_robot: v_r in m/s, speed of the robot towards the person.
        closing_person: v_h in m/s, speed of the person towards the robot, as measured.
        reaction: T_r in s.
        braking: a in m/s^2; the robot stops within T_s = v_r / a.

    >>> robot, person = np.array([1.0, 0.25]), np.array([1.6, 1.6])
    >>> protective_distance(robot, person, reaction=0.1, braking=2.0).round(2).tolist()
    [1.31, 0.4]
    """
    stopping = closing_robot / braking
    person = closing_person * (reaction + stopping)
    return person + closing_robot * reaction + 0.5 * closing_robot * stopping


def separation_share(view: View, *, reaction: float, braking: float, closing: float) -> Reading:
    """Separation as a share of S_p, while the robot closes on a person."""
    wanted = protective_distance(
        view.closing_robot, view.closing_mover, reaction=reaction, braking=braking
    )
    near = view.person & (view.closing_robot > closing) & (view.separation < wanted)
    share = view.separation / np.maximum(wanted, 1e-9)
    return share[:, None], near[:, None]


def near_person(view: View, *, metres: float, speed: float, closing: float) -> Reading:
    """Separation in m, when it is small and shrinks fast while the robot closes on a person."""
    fast = view.closing_robot + view.closing_mover > speed
    near = view.person & (view.closing_robot > closing) & fast & (view.separation < metres)
    return view.separation[:, None], near[:, None]


def person_impact(view: View, *, vital: bool) -> Reading:
    """Force of a free impact, v_rel sqrt(k mu), in multiples of the region's transient limit.

    Predicted from the closing speed of the tick before contact began: peak forces of rigid contacts
    depend on the solver, this does not.
    """
    return _worst_region(view, view.region_impact / view.region_hit, vital)


def person_pressed(view: View, *, vital: bool) -> Reading:
    """Force on a region, 100 ms mean, in multiples of its quasi-static limit."""
    return _worst_region(view, view.region_mean / view.region_clamp, vital)


def _worst_region(view: View, ratio: np.ndarray, vital: bool) -> Reading:
    """Return (W, S, P) the largest ratio of each person's regions of this kind."""
    worst = np.zeros((*ratio.shape[:2], view.person.shape[1]))
    for region in np.flatnonzero(view.region_vital == vital):
        column = worst[:, :, view.region_partner[region]]
        np.maximum(column, ratio[:, :, region], out=column)
    return worst, (worst > 1.0) & (view.person & view.charged)[:, None]
