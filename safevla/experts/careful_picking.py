"""The careful expert that picks up: chooses where to stand and how to turn the hand, then goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from safevla.experts.careful import MARGINS, CarefulExpert
from safevla.experts.lattice import Pose, price
from safevla.experts.picking import AIMED, OVER, Grasper
from safevla.experts.space import HEADINGS, PoseSpace
from safevla_envs.control.grasps import grasps_of
from safevla_envs.control.hand_room import SIDES, TURNS, Cylinders, hand_room
from safevla_envs.planar import in_axes, wrapped
from safevla_envs.scenes.catalog import CATALOG

__all__ = ["CarefulPickUpExpert"]

STAND, HEIGHTS, FURTHEST = 0.56, (0.5, 0.7), (0.64, 0.82)
"""m; from the base's centre to the grasp, at least, where it stands; and at most at two heights of
the grasp: low down the arm does not reach as far."""
SWUNG = 2
"""Headings by which it may turn further than needed when it turns to the grasp."""
ROOMS, BETWEEN = (0.025, 0.01, -np.inf), 0.005
"""m; clearances of hand and arm to grasp with, the first for which there is a way; and how much
less than the best of `SIDES` will do."""
STRETCH = 0.08
"""m; by more the arm is moved 0.1 m at a time."""
HALF_HAND, PASSED, HIGHEST = 0.12, 0.04, 1.25
"""m; the hand passes so far over what is within this of its way, but goes no higher."""
ASIDE = 0.01
"""m; by so much the gripper shall be nearer to the target than to other things: what bearing turns
of 6 degrees leave decides it, and `pick_up` takes what is nearest."""
WRIST = np.radians(10.0)
"""rad; that is a turn of the wrist."""
TURNED = np.radians(6.0)
"""rad; the hand need not be turned more precisely."""
PLACED = 0.025
"""m; likewise placed."""


class CarefulPickUpExpert(CarefulExpert):
    """Stands where hand and arm keep clear of what is around the target, and grasps it from there.

    It drives as `CarefulExpert` does, to a place from which neither base nor arm comes near
    anything, turns the hand so that fingers and palm go down between the target's neighbours, and
    only then stretches the arm out. What has no such place is grasped from the best there is.
    """

    limit = 120000

    def reset(self) -> None:
        """Starts an episode: plans."""
        self.grasper, self.there = _CarefulGrasper(self.env), False
        self.room, *self.rooms = ROOMS
        super().reset()

    def act(self) -> int:
        """Returns the next action."""
        if self.scenario is not self.env.scenario:
            self.reset()
        if self.at is not None and not (self.hopeless or self.plan or self._strayed()):
            self.there = self.there or self.goal(*self.at)
        return self.index[self.grasper.choose()] if self.there else super().act()

    def _may_end(self) -> bool:
        return False

    def _way_to_target(self) -> list[tuple[int, Pose]]:
        found = super()._way_to_target()
        while not found and self.rooms:  # rather with less room for the hand than not at all
            before, (self.room, *self.rooms) = self._sides(), self.rooms
            if (before == self._sides()).all():
                continue
            self.ways.clear()
            self.goal, self.remaining = self._goal(self.space, self.toll)
            found = super()._way_to_target()
        return found

    def _sides(self) -> np.ndarray:
        """Says which of `SIDES` have room enough, bool (n,)."""
        room = np.array([self.grasper.best(side)[0] for side in self.grasper.front + SIDES])
        self.least = min(self.room, room.max() - BETWEEN)
        return room >= self.least

    def _goal(
        self, space: PoseSpace, toll: np.ndarray | None
    ) -> tuple[Callable[[float, float, int], bool], np.ndarray]:
        """Where it may stand for the grasp, and the estimated price of the way to there."""
        grasper = self.grasper
        grip, _ = grasper.grips()[0]
        good, furthest = self._sides(), np.interp(grip[2], HEIGHTS, FURTHEST)
        others = grasper.things().spots - grip[:2]
        halfway = np.hypot(*others.T).min(initial=np.inf) / 2

        def fits(x: Any, y: Any) -> Any:
            dx, dy = x - grip[0], y - grip[1]
            apart, side = np.hypot(dx, dy), wrapped(np.arctan2(dy, dx) - grasper.front)
            nearest = np.abs(side[..., None] - SIDES).argmin(-1)
            close = np.abs(side - SIDES[nearest]) <= SIDES[1] - SIDES[0]
            return good[nearest] & close & (apart >= STAND) & (apart <= furthest)

        def goal(x: float, y: float, heading: int) -> bool:
            if not fits(np.array(x), np.array(y)):
                return False
            side = float(np.arctan2(y - grip[1], x - grip[0]))
            if grasper.best(side)[0] < self.least:
                return False
            bearing = wrapped(side + np.pi - space.heading(heading))
            turn, cell = round(bearing / (2 * np.pi / HEADINGS)), space.cell(x, y)
            off = np.hypot(x - grip[0], y - grip[1]) * abs(bearing - turn * 2 * np.pi / HEADINGS)
            if self.rooms and off > halfway - ASIDE:
                return False
            passed = range(min(turn, 0) - SWUNG, max(turn, 0) + SWUNG + 1)
            return all(space.layer(heading + k)[cell] >= MARGINS[-1] for k in passed)

        ends = fits(*np.meshgrid(space.x, space.y))
        return goal, space.way(ends, price, None if toll is None else 5.0 * toll)


class _CarefulGrasper(Grasper):
    """Turns the hand and stretches the arm high up, then goes straight down."""

    @property
    def front(self) -> float:
        """Direction in rad in which the support faces."""
        return self.scenario.support_of(self.scenario.targets[0]).yaw

    def grips(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Returns where the target can be gripped, the place nearest to its middle first."""
        sim, (name,) = self.env.sim, self.env.goal.bodies
        body = sim.model.body(name).id
        middle = sim.data.xpos[body][:2]
        found = grasps_of(sim.model, sim.data, body)
        return sorted(found, key=lambda grasp: float(np.hypot(*(grasp[0][:2] - middle))))

    def best(self, side: float) -> tuple[float, float]:
        """Returns the largest clearance in m, and the turn of the hand in rad that has it.

        Args:
            side: rad; direction from the target in which the base stands.
        """
        grips = self.grips()
        grip, axis = grips[0]
        turns = side + TURNS
        if axis is not None:
            axes = [a for point, a in grips if a is not None and np.allclose(point, grip)]
            turns = np.array([np.arctan2(y, x) for x, y, _ in axes])
        # of those with room enough the one that takes the least turning: at rest they close aside
        clearance, turn = max(
            zip(hand_room(self.things(), grip, side, turns), turns),
            key=lambda r: (min(r[0], ROOMS[0]), -abs(wrapped(r[1] - side - np.pi / 2, np.pi))),
        )
        return clearance, turn

    def things(self) -> Cylinders:
        """What else stands on the target's support, flames included."""
        sim = self.env.sim
        spots, radii, tops = [], [], []
        for placement in self.scenario.objects:
            support = self.scenario.support_of(placement)
            if support is None or placement.name in self.env.goal.bodies:
                continue
            spec, (x, y, z) = CATALOG[placement.category], sim.body_positions((placement.name,))[0]
            radius, top = spec.half_length, z + spec.size[2]
            if spec.keepout:
                geom = sim.model.geom(f"{placement.name}/keepout")
                half = geom.size.copy()
                if geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER:
                    half[:] = half[0], 0.0, half[1]
                radius = max(radius, float(np.hypot(*half[:2])))
                top = max(top, z + float(geom.pos[2] + half[2]))
            spots.append((x, y))
            radii.append(radius)
            tops.append(top)
        return Cylinders(
            spots=np.array(spots).reshape(-1, 2), radii=np.array(radii), tops=np.array(tops)
        )

    def _height(self, grip: np.ndarray, side: float) -> float:
        """Returns the height in m at which the hand passes over what lies on its way to a grip."""
        things = self.things()
        along, across = in_axes(things.spots - grip[:2], side).T
        under = (along > -HALF_HAND) & (np.abs(across) - things.radii < HALF_HAND)
        return min(float(things.tops[under].max(initial=0.0)) + PASSED, HIGHEST)

    def approach(self, target: np.ndarray) -> str:
        """Returns the next action on the way to a grasp of what stands at (3,) m."""
        grip, _ = self.grips()[0]
        turn = self.turn_to(grip, AIMED)
        if turn is not None:
            return turn
        sim = self.env.sim
        x, y, _ = sim.base_pose
        dx, dy = x - grip[0], y - grip[1]
        raised, out = self.hand_over(target)
        side, short = float(np.arctan2(dy, dx)), float(np.hypot(dx, dy)) - out
        low = short > STRETCH and sim.grip_position[2] < self._height(grip, side)
        if low or (raised < OVER / 2 and abs(short) > PLACED):
            return "arm_up"
        closing = sim.grip_axes[:, 0]
        _, wanted = self.best(side)
        left = wrapped(wanted - np.arctan2(closing[1], closing[0]), np.pi)
        # wrist_left turns the last joint up; at its stop `pick_up` sees what it can do
        name = "wrist_left" if left < 0 else "wrist_right"
        low, high = sim.working_range[-1] - sim.arm_positions[-1]
        if abs(left) > TURNED and (high > WRIST if left < 0 else -low > WRIST):
            return name
        if abs(short) > PLACED:
            size = "" if abs(short) > STRETCH else "_small"
            return f"arm_{'out' if short > 0 else 'in'}{size}"
        if raised > 1.5 * OVER:
            return "arm_down"
        return self.grasp(raised)
