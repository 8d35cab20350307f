"""The action sets: discrete CHORES primitives, a base twist, or motions of the end effector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from safevla_envs.control.arm import (
    ArmMotion,
    DropMotion,
    EffectorMotion,
    GraspMotion,
    WristMotion,
)
from safevla_envs.control.drive import BaseMotion, held_reference, twist_reference
from safevla_envs.control.torso import TorsoMotion, lift
from safevla_envs.world import TICK, TORSO_SPEED, World

__all__ = [
    "ACTION_MODES",
    "GRASP_REACH",
    "MAX_TWIST",
    "PRIMITIVES",
    "SIDE_STEPS",
    "TORSO",
    "Actions",
    "Hold",
    "Primitive",
    "make_actions",
]

MAX_TWIST = np.array([0.6, 0.6, 1.2])
"""m/s, m/s, rad/s; twist at full action in continuous mode."""


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """A discrete action: what moves, by how much (m or rad), and for how many 50 ms ticks."""

    name: str
    kind: str
    amount: tuple[float, ...] = ()
    ticks: int = 8


def _turn(name: str, degrees: float, ticks: int) -> Primitive:
    return Primitive(name=name, kind="base", amount=(0, 0, float(np.radians(degrees))), ticks=ticks)


def _arm(name: str, axis: int, amount: float) -> Primitive:
    offset = [0.0, 0.0, 0.0]
    offset[axis] = amount
    return Primitive(
        name=name, kind="arm", amount=tuple(offset), ticks=12 if abs(amount) > 0.05 else 4
    )


PRIMITIVES = (
    Primitive(name="move_ahead", kind="base", amount=(0.2, 0, 0)),
    Primitive(name="move_back", kind="base", amount=(-0.2, 0, 0)),
    _turn("rotate_left", 30, 8),
    _turn("rotate_right", -30, 8),
    _turn("rotate_left_small", 6, 4),
    _turn("rotate_right_small", -6, 4),
    _arm("arm_up", 2, 0.10),
    _arm("arm_down", 2, -0.10),
    _arm("arm_out", 0, 0.10),
    _arm("arm_in", 0, -0.10),
    _arm("arm_up_small", 2, 0.02),
    _arm("arm_down_small", 2, -0.02),
    _arm("arm_out_small", 0, 0.02),
    _arm("arm_in_small", 0, -0.02),
    Primitive(name="wrist_left", kind="wrist", amount=(float(np.radians(10)),), ticks=4),
    Primitive(name="wrist_right", kind="wrist", amount=(float(np.radians(-10)),), ticks=4),
    Primitive(name="pick_up", kind="grasp", ticks=60),
    Primitive(name="drop_off", kind="drop", ticks=10),
    Primitive(name="sub_task_done", kind="none", ticks=1),
    Primitive(name="end", kind="end", ticks=0),
)
"""The primitives of CHORES (SPOC, Ehsani et al. 2024), in the order of the action space."""
SIDE_STEPS = (
    Primitive(name="move_left", kind="base", amount=(0, 0.2, 0)),
    Primitive(name="move_right", kind="base", amount=(0, -0.2, 0)),
)
"""Appended when the environment is made with `side_steps=True`: the base is holonomic."""
TORSO = (
    Primitive(name="torso_up", kind="torso", amount=(0.10,), ticks=24),
    Primitive(name="torso_down", kind="torso", amount=(-0.10,), ticks=24),
)
"""Appended for tasks whose robot moves its torso."""
LADEN = 4
"""With something in the hand, base, torso and arm move so many times as slowly: it stays there."""
END_THRESHOLD = 0.5
GRASP_REACH = 0.35
"""m; `pick_up` takes nothing that is further from the gripper."""
BETWEEN = 0.1
"""m; what can be gripped so near to the grip point may be what the fingers close on."""


class Actions(Protocol):
    """What a policy may do, turned into motions.

    Attributes:
        mode: its name, of `ACTION_MODES`.
        names: of the actions, in order; none if they are no choice.
    """

    mode: str
    names: tuple[str, ...]

    @property
    def space(self) -> spaces.Space[Any]:
        """Space of the actions."""
        ...

    def check(self, action: Any) -> Any:
        """Returns the action in canonical form.

        Raises:
            ValueError: if it is outside the space, NaN included.
        """
        ...

    def ends(self, action: Any) -> bool:
        """Says whether the robot says by it that it is done."""
        ...

    def ticks(self, sim: World, action: Any) -> int:
        """Returns the number of control ticks that it lasts as things stand."""
        ...

    def start(self, sim: World, action: Any) -> Any:
        """Returns the motion of an action: an object whose `apply()` sets each tick's set-points.

        Args:
            sim: the world, whose `grasp` it sets if it is one.
            action: as `check` returned it.
        """
        ...


class Primitives:
    """One of 20 primitives, of two side-steps if `side_steps`, of two more if `torso`."""

    mode = "discrete"

    def __init__(self, *, side_steps: bool = False, torso: bool = False):
        self.primitives = PRIMITIVES + side_steps * SIDE_STEPS + torso * TORSO
        self.names = tuple(p.name for p in self.primitives)
        self.space = spaces.Discrete(len(self.primitives))

    def check(self, action: Any) -> int:
        """Returns an index; see `Actions`."""
        if isinstance(action, np.ndarray) and action.size == 1:
            action = action.item()
        whole = isinstance(action, (int, np.integer)) and not isinstance(action, bool)
        if not whole or not 0 <= action < len(self.names):
            raise ValueError(f"action={action!r}: a whole number 0 to {len(self.names) - 1}")
        return int(action)

    def ends(self, action: int) -> bool:
        """Says whether the action is `end`."""
        return self.primitives[action].kind == "end"

    def ticks(self, sim: World, action: int) -> int:
        """Returns the number of control ticks that it lasts: more with something in the hand."""
        primitive = self.primitives[action]
        laden = primitive.kind in ("base", "torso", "arm") and sim.held().any()
        return primitive.ticks * (LADEN if laden else 1)

    def start(self, sim: World, action: int) -> Any:
        """Returns the motion; see `Actions`."""
        primitive, ticks = self.primitives[action], self.ticks(sim, action)
        if primitive.kind == "base":
            return BaseMotion(sim, np.array(primitive.amount), ticks)
        if primitive.kind == "torso":
            return TorsoMotion(sim, primitive.amount[0], ticks)
        if primitive.kind == "arm":
            return ArmMotion(sim, np.array(primitive.amount), ticks)
        if primitive.kind == "wrist":
            return WristMotion(sim, primitive.amount[0], ticks)
        if primitive.kind == "grasp":
            sim.grasp = sim.nearest_grasp(GRASP_REACH)
            return GraspMotion(sim, sim.grasp, ticks)
        if primitive.kind == "drop":
            return DropMotion(sim)
        return Hold(sim)


class Shares:
    """Numbers in [-1, 1] for one tick: `Box`.

    Args:
        mode: its name.
        count: of numbers.
        motion: makes a motion of a world and the numbers.
        end: index of the number that ends the episode above 0.5; None if the task says when.
    """

    names = ()

    def __init__(self, mode: str, count: int, motion: Any, *, end: int | None):
        self.mode, self.motion, self.end = mode, motion, end
        self.space = spaces.Box(-1.0, 1.0, (count,), np.float32)

    def check(self, action: Any) -> np.ndarray:
        """Returns float64 (count,); see `Actions`."""
        try:
            shares = np.asarray(action)
        except ValueError:  # ragged
            shares = np.zeros(0)
        numbers = shares.shape == self.space.shape and shares.dtype.kind in "iuf"
        # written so that NaN fails
        if not numbers or not (np.abs(shares) <= 1 + 1e-6).all():
            (count,) = self.space.shape
            raise ValueError(f"action={action!r}: {count} finite numbers in [-1, 1] are needed")
        return np.clip(shares.astype(np.float64), -1.0, 1.0)

    def ends(self, action: np.ndarray) -> bool:
        """Says whether the action ends the episode."""
        return self.end is not None and bool(action[self.end] > END_THRESHOLD)

    def ticks(self, sim: World, action: np.ndarray) -> int:
        """Returns 1, 0 at the end."""
        return 0 if self.ends(action) else 1

    def start(self, sim: World, action: np.ndarray) -> Any:
        """Returns the motion; see `Actions`."""
        return self.motion(sim, action)


ACTION_MODES = ("discrete", "continuous", "end_effector", "whole_body")


def make_actions(mode: str, *, side_steps: bool = False, torso: bool = False) -> Actions:
    """Returns the actions of a mode.

    "discrete": one of 20 primitives. "continuous": forward, left, counter-clockwise as shares of
    `MAX_TWIST`, and `end`, which ends the episode above 0.5. "end_effector": displacement x, y, z
    and turn about x, y, z in the robot's frame as shares of `MAX_DELTA`, and the gripper, towards
    open at -1 and closed at 1, as robosuite's. "whole_body": the three of "continuous", up as a
    share of `TORSO_SPEED`, the seven of "end_effector", and `end`.

    Args:
        mode: of `ACTION_MODES`.
        side_steps: append the two side-steps to the primitives.
        torso: append the torso's two.

    Raises:
        ValueError: on an unknown mode.
    """
    if mode not in ACTION_MODES:
        raise ValueError(f"action_mode={mode!r}: allowed are {', '.join(ACTION_MODES)}")
    if mode == "discrete":
        return Primitives(side_steps=side_steps, torso=torso)
    if mode == "continuous":
        return Shares(mode, 4, _Twist, end=3)
    if mode == "whole_body":
        return Shares(mode, 12, _WholeBody, end=11)
    return Shares(mode, 7, EffectorMotion, end=None)


class _Twist:
    def __init__(self, sim: World, action: np.ndarray):
        self.sim, self.twist = sim, action[:3] * MAX_TWIST / (LADEN if sim.held().any() else 1)

    def apply(self) -> None:
        twist_reference(self.sim, self.twist)


class _WholeBody:
    """Base, torso and arm in one tick; the fingers press no harder than their object bears."""

    def __init__(self, sim: World, action: np.ndarray):
        slow = LADEN if sim.held().any() else 1
        self.sim, self.rise = sim, action[3] * TORSO_SPEED * TICK / slow
        # a base that is not driven is held: by a twist of 0 it would give way to the arm
        self.base = _Twist(sim, action) if action[:3].any() else Hold(sim)
        self.hand = EffectorMotion(sim, np.append(action[4:10] / slow, action[10]), _gentle(sim))

    def apply(self) -> None:
        self.base.apply()
        lift(self.sim, self.rise)
        self.hand.apply()


def _gentle(sim: World) -> float:
    """Returns the force in N of each finger that what is held, or about to be, bears."""
    held = np.flatnonzero(sim.held())
    if len(held):
        return min(sim.grip_force(int(partner)) for partner in held)
    grasp = sim.nearest_grasp(BETWEEN)
    return sim.robot.hand.force if grasp is None else grasp.force


class Hold:
    """Keeps the base where it is."""

    def __init__(self, sim: World):
        self.sim = sim
        self.pose = held_reference(sim)

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        self.sim.set_base(self.pose, np.zeros(3))
