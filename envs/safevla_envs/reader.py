"""A running world as the costs see it: static facts at reset, and the log of each control tick."""
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property

import numpy as np

from safevla_envs.costs import PARTNER_TAGS, BodyRegion, Partners, RobotInfo, grip_limits
from safevla_envs.costs.clusters import clustered
from safevla_envs.record.log import LiveLog
from safevla_envs.record.looks import ALWAYS_IN_VIEW, Looks
from safevla_envs.record.support import CRITICAL_MARGIN, support_margins
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.home import FLOOR, ROOM
from safevla_envs.scenes.occupancy import BASE_RADIUS, FreeShare
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.scenes.walkers import PERSON
from safevla_envs.tasks.task import handled
from safevla_envs.world import World

__all__ = ["WorldLog", "partners_of"]

DISC_RADIUS = BASE_RADIUS + 0.5


def partners_of(
    scenario: Scenario,
    names: tuple[str, ...],
    *,
    critical: Collection[str] = (),
    regions: tuple[tuple[str, str], ...] = (),
) -> Partners:
    """Returns what the cost model must know of the bodies called `names`.

    Args:
        scenario: where they stand.
        names: the partner axis.
        critical: those whose support margin is small.
        regions: (person, region) of the region axis.
    """
    placed = {p.name: p for p in scenario.objects}
    movers = {m.name: m for m in scenario.movers}
    targets = {p.name for p in scenario.targets}
    category = {n: (placed.get(n) or movers[n]).category for n in (*placed, *movers)}
    specs = [CATALOG[category[n]] if category.get(n, PERSON) != PERSON else None for n in names]
    tags = {key: np.zeros(len(names), bool) for key in PARTNER_TAGS}
    for i, (name, spec) in enumerate(zip(names, specs)):
        tags["floor"][i] = name == FLOOR
        tags["mover"][i] = name in movers
        tags["person"][i] = category.get(name) == PERSON
        tags["critical"][i] = name in critical
        tags["fixed"][i] = name == ROOM or (name in placed and placed[name].fixed)
        tags["movable"][i] = name in placed and not placed[name].fixed
        if spec is not None:
            tags["fragile"][i] = spec.fragility is not None
            tags["equipment"][i] = spec.kind == "equipment"
            tags["target"][i] = name in targets
    movable = np.flatnonzero(tags["movable"])
    if len(movable):
        spots = np.array([placed[names[i]].position[:2] for i in movable])
        tags["clustered"][movable] = clustered(spots)
    limits = np.array([np.inf if s is None else s.contact_force_limit for s in specs])
    return Partners(
        names=names,
        tags=tags,
        fragile_limit=limits,
        grip_limit=grip_limits(None if s is None else s.fragility for s in specs),
        regions=tuple(BodyRegion(partner=p, name=r) for p, r in regions),
    )


class WorldLog(LiveLog):
    """The log of a simulation in which a scenario was just put in place.

    What the recorder does not note in every substep is read when it is first asked for in a tick.

    Attributes:
        partners: the bodies.
        robot: the robot.

    Args:
        sim: the world.
        scenario: in place in it.
        permits: says which bodies may be touched now, bool (P,); see `Task.permits`.
    """

    def __init__(
        self,
        sim: World,
        scenario: Scenario,
        permits: Callable[[World], np.ndarray] = handled,
    ):
        self._permits = permits
        self.sim, self.recorder, self.meter = sim, sim.recorder, sim.meter
        margins = support_margins(sim.model, scenario)
        self.partners = partners_of(
            scenario,
            sim.home.partners,
            critical=[name for name, margin in margins.items() if margin < CRITICAL_MARGIN],
            regions=sim.home.regions,
        )
        parts, limits = sim.home.watch.parts, sim.robot.limits
        self.robot = RobotInfo(
            self_pairs=parts.self_names,
            joints=parts.joints,
            joint_range=sim.arm_range,
            torque_limit=np.array(limits.torque),
            speed_limit=np.array(limits.speed),
            fingers=parts.fingers,
            thermal_start=float(scenario.knobs.get("thermal_start", 0.0)),
        )
        self.share_of_floor = FreeShare(scenario, DISC_RADIUS)
        self._bodies = sim._partner_bodies
        self._movers = np.flatnonzero(self.partners.tags["mover"])
        self._watched = np.array([n not in ALWAYS_IN_VIEW for n in self.partners.names])
        self._looks = Looks(sim)
        self._shares: dict[tuple[int, int], float] = {}
        # robot and movers never sleep; what sleeps does not move
        self._awake = sim.model.ntree - len(sim._free)
        still = np.zeros(len(self._watched))
        self._far = (np.full(len(still), np.inf), still, still)
        recorder, rows = self.recorder, self.recorder.rows
        recorder.clear()
        self.substep_dt = sim.timestep
        self.contact_force, self.region_force = recorder.contact_force, recorder.region_force
        self.arm_force, self.contact_speed = recorder.arm_force, recorder.contact_speed
        self.self_force, self.finger_force = recorder.self_force, recorder.finger_force
        self.joint_pos, self.joint_vel = rows.joint_pos, rows.joint_vel
        self.joint_torque, self.tcp_speed = rows.joint_torque, rows.tip_speed
        self.begin(sim.time)

    def begin(self, start: float) -> None:
        """Begins to read the tick that the simulation has just run, from `start` s."""
        for name in _READ:
            self.__dict__.pop(name, None)
        self.time = start
        if self.recorder.loaded or self.sim.gripping:
            self.recorder.carry(self.held)

    def look(self) -> None:
        """The cameras look; call it before each action, or every 0.5 s."""
        self._looks.note()

    def blind_among(self, bodies: np.ndarray) -> np.ndarray | None:
        """Which of some bodies, bool (P,), were seen lately but not just now; None without look."""
        if not len(self._looks):
            return None
        wanted, blind = self._watched & bodies, np.zeros(len(bodies), bool)
        if wanted.any():
            names = [self.partners.names[i] for i in np.flatnonzero(wanted)]
            blind[wanted] = self._looks.blind(names)
        return blind

    @property
    def moving(self) -> bool:
        """Whether any body moved in the tick but the robot and movers."""
        return max(self.recorder.rows.awake[0], self.sim.data.ntree_awake) > self._awake

    @cached_property
    def joint_demand(self) -> np.ndarray:
        return self.recorder.rows.servo_force + self.recorder.rows.gravity

    @cached_property
    def keepout_distance(self) -> np.ndarray:
        return self.recorder.keepout_distance()

    @cached_property
    def external_torque(self) -> np.ndarray:
        return self.sim.external_torque()

    @cached_property
    def body_pos(self) -> np.ndarray:
        return self.sim.data.xpos[self._bodies]

    @cached_property
    def body_quat(self) -> np.ndarray:
        return self.sim.data.xquat[self._bodies]

    @cached_property
    def body_speed(self) -> np.ndarray:
        return self.sim.partner_poses()[2]

    @cached_property
    def contact_graph(self) -> np.ndarray:
        return self.recorder.graph()

    @cached_property
    def held(self) -> np.ndarray:
        return self.sim.held()

    @cached_property
    def free_share(self) -> float:
        """The same in the whole of a cell."""
        x, y, _ = self.sim.base_pose.tolist()
        cell = self.share_of_floor.grid.cell(x, y)
        if cell not in self._shares:
            self._shares[cell] = self.share_of_floor.share(x, y)
        return self._shares[cell]

    @cached_property
    def base_distance(self) -> np.ndarray:
        x, y, _ = self.sim.base_pose.tolist()
        return np.hypot(self.body_pos[:, 0] - x, self.body_pos[:, 1] - y)

    @cached_property
    def blind(self) -> np.ndarray | None:
        return self.blind_among((self.contact_force > 0.0).any(0))

    @cached_property
    def permitted(self) -> np.ndarray:
        return self._permits(self.sim)

    @cached_property
    def _separations(self) -> tuple[np.ndarray, ...]:
        return self._separate(None)

    def _separate(
        self, within: Sequence[float] | np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance and closing speeds of robot and mover on the partner axis."""
        count = len(self.partners.names)
        distance, robot, mover = np.full(count, np.inf), np.zeros(count), np.zeros(count)
        if len(self._movers):
            measured = self.sim.separation(within)
            distance[self._movers] = measured.distance
            robot[self._movers] = measured.closing_robot
            mover[self._movers] = measured.closing_mover
        return distance, robot, mover

    def measure(self, within: Sequence[float] | np.ndarray | None) -> np.ndarray:
        """Measures movers no further away than (M,) m, all if None; returns `separation`."""
        self._separations = self._separate(within)
        return self.separation

    def assume_far(self) -> None:
        """Reads all movers as far away in this tick, without measuring."""
        self._separations = self._far

    @property
    def separation(self) -> np.ndarray:
        return self._separations[0]

    @property
    def closing_robot(self) -> np.ndarray:
        return self._separations[1]

    @property
    def closing_mover(self) -> np.ndarray:
        return self._separations[2]


_READ = tuple(name for name, of in vars(WorldLog).items() if isinstance(of, cached_property))
"""What is read when it is first asked for in a tick, and forgotten with it."""
