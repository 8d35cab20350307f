"""What the cost model remembers between ticks."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from safevla_envs.costs.arm import ArmState
from safevla_envs.costs.events import EventState
from safevla_envs.costs.movers import MoverState


@dataclass(frozen=True, kw_only=True)
class CostState:
    """Everything the cost model remembers between ticks; W is 1 without a world axis.

    Attributes:
        substep_dt: s.
        events: Open events and incidents, rows = W x groups (see `CostModel`).
        since_link: int (W, P) substeps since each body was last in a chain to the robot.
        resting: int (W, P) substeps at rest.
        reference_pos: (W, P, 3) m, where each body last lay still (or is held, see `observe`).
        reference_quat: (W, P, 4).
        reset_height: (W, P) m at reset.
        reset_quat: (W, P, 4) at reset.
        contact_tail: (W, window - 1, P) N, for the causal mean.
        self_tail: (W, window - 1, L) N.
        movers: Who ran into whom.
        arm: Load and speed of the joints, force of the fingers.
    """

    substep_dt: float
    events: EventState
    since_link: np.ndarray
    resting: np.ndarray
    reference_pos: np.ndarray
    reference_quat: np.ndarray
    reset_height: np.ndarray
    reset_quat: np.ndarray
    contact_tail: np.ndarray
    self_tail: np.ndarray
    movers: MoverState
    arm: ArmState


_S = TypeVar("_S", CostState, EventState, MoverState, ArmState)


def changed(state: _S, **fields: Any) -> _S:
    """Return what `dataclasses.replace` returns, without the cost of a constructor."""
    copy = object.__new__(type(state))
    copy.__dict__.update(state.__dict__, **fields)
    return copy
