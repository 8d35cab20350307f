"""Simulation -> the cost model's signals: static facts at reset, one `Signals` per control tick."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from safevla_envs.costs import PARTNER_TAGS, BodyRegion, Partners, RobotInfo, Signals
from safevla_envs.record.looks import Looks
from safevla_envs.record.support import CRITICAL_MARGIN, support_margins
from safevla_envs.robots.panda_omron import ROBOT, SPEED_LIMITS, TORQUE_LIMITS
from safevla_envs.scenes.catalog import CATALOG, RUGGED
from safevla_envs.scenes.home import FLOOR, ROOM
from safevla_envs.scenes.occupancy import BASE_RADIUS, FreeShare
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.scenes.walkers import PERSON
from safevla_envs.tasks.task import handled
from safevla_envs.world import Simulation

__all__ = ["CLUSTER_LINK", "CLUSTER_SIZE", "SignalReader", "clustered", "partners_of"]

CLUSTER_LINK, CLUSTER_SIZE = 0.3, 3
"""m; movable bodies linked by less than this, at least this many of them, are a cluster."""
DISC_RADIUS = BASE_RADIUS + 0.5


def clustered(positions: np.ndarray) -> np.ndarray:
    """Says which of the bodies at (n, 2) m stand in a cluster (single linkage), bool (n,)."""
    count = len(positions)
    link = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1)) < CLUSTER_LINK
    for _ in range(max(1, int(np.ceil(np.log2(max(count, 2)))))):
        link = (link.astype(int) @ link.astype(int)) > 0
    return link.sum(1) >= CLUSTER_SIZE


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
            tags["target"][i] = name in placed and spec.category == scenario.target_category
    movable = np.flatnonzero(tags["movable"])
    if len(movable):
        spots = np.array([placed[names[i]].position[:2] for i in movable])
        tags["clustered"][movable] = clustered(spots)
    limits = np.array([np.inf if s is None else s.contact_force_limit for s in specs])
    return Partners(
        names=names,
        tags=tags,
        fragile_limit=limits,
        grip_limit=np.array([(RUGGED if s is None else s.bears).grip for s in specs], float),
        regions=tuple(BodyRegion(partner=p, name=r) for p, r in regions),
    )


class SignalReader:
    """Reads one scenario's signals from a simulation in which it was just put in place.

    Args:
        sim: the simulation.
        scenario: in place in it.
        permits: says which bodies may be touched now, bool (P,); see `Task.permits`.
    """

    def __init__(
        self,
        sim: Simulation,
        scenario: Scenario,
        permits: Callable[[Simulation], np.ndarray] = handled,
    ):
        self.sim = sim
        margins = support_margins(sim.model, scenario)
        self.partners = partners_of(
            scenario,
            sim.home.partners,
            critical=[name for name, margin in margins.items() if margin < CRITICAL_MARGIN],
            regions=sim.home.regions,
        )
        self.robot = RobotInfo(
            self_pairs=tuple(sim.home.instrumentation.self_names),
            joints=ROBOT.arm_joints,
            joint_range=sim.arm_range,
            torque_limit=np.array(TORQUE_LIMITS),
            speed_limit=np.array(SPEED_LIMITS),
            fingers=ROBOT.finger_bodies,
            thermal_start=float(scenario.knobs.get("thermal_start", 0.0)),
        )
        self.free_share = FreeShare(scenario, DISC_RADIUS)
        self._permits = permits
        self._movers = np.flatnonzero(self.partners.tags["mover"])
        # walls and fixed furniture are one body: somewhere it is always in view
        self._watched = np.array([n not in (FLOOR, ROOM) for n in self.partners.names])
        self._looks = Looks(sim)
        self._shares: dict[tuple[int, int], float] = {}
        self._none = np.zeros(len(self._watched), bool)
        self._none.flags.writeable = False
        at_rest = np.zeros(len(self._watched))
        self._far = {
            "separation": np.full(len(self._watched), np.inf),
            "closing_robot": at_rest,
            "closing_mover": at_rest,
        }
        for shared in self._far.values():
            shared.flags.writeable = False

    def look(self) -> None:
        """The cameras look; call it before each action, or every 0.5 s."""
        self._looks.note()

    def blind(self, bodies: np.ndarray | None = None) -> np.ndarray | None:
        """Which bodies were seen lately but not just now, bool (P,); None before the first look.

        Args:
            bodies: bool (P,), those of interest; the others are False. None for all.
        """
        if not len(self._looks):
            return None
        wanted = self._watched if bodies is None else self._watched & bodies
        if not np.count_nonzero(wanted):
            return self._none
        blind = np.zeros(len(wanted), bool)
        blind[wanted] = self._looks.blind([self.partners.names[i] for i in np.flatnonzero(wanted)])
        return blind

    def read(self, start: float, near: np.ndarray | None = None) -> Signals:
        """Returns the signals of the tick that began at `start` s.

        Args:
            start: s.
            near: see `separation`.
        """
        sim = self.sim
        raw = sim.recorder.read()
        position, quaternion, speed = sim.partner_poses()
        graph = sim.recorder.contacts.graph()
        held = sim.held()
        x, y, _ = sim.base_pose.tolist()
        blind = self._none if len(self._looks) else None
        if raw.touching and blind is not None:
            blind = self.blind((raw.contact_force > 0.0).any(0))
        return Signals(
            substep_dt=sim.timestep,
            time=start,
            contact_force=raw.contact_force,
            self_force=raw.self_force,
            joint_pos=raw.joint_pos,
            keepout_distance=raw.keepout_distance,
            valid=raw.valid,
            body_pos=position,
            body_quat=quaternion,
            body_speed=speed,
            contact_graph=graph,
            free_share=self._free_share(x, y),
            held=held,
            support_exempt=self._permits(sim),
            robot_moving=max(map(abs, sim.base_velocity.tolist())) > 0.05,
            base_distance=np.hypot(position[:, 0] - x, position[:, 1] - y),
            blind=blind,
            region_force=raw.region_force if self.partners.regions else None,
            joint_vel=raw.joint_vel,
            joint_torque=raw.joint_torque,
            joint_demand=raw.servo_force + sim.gravity_torque(),
            external_torque=sim.external_torque(),
            tcp_speed=raw.tip_speed,
            finger_force=raw.finger_force,
            **self.separation(near),
        )

    def _free_share(self, x: float, y: float) -> float:
        """The free share around a point in m; the same in the whole of a cell."""
        cell = self.free_share.grid.cell(x, y)
        if cell not in self._shares:
            self._shares[cell] = self.free_share.share(x, y)
        return self._shares[cell]

    def separation(self, near: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Distance and closing speeds on the partner axis; nothing without movers. Do not write.

        Args:
            near: bool (M,), the movers to measure, the others read as out of sight; None for all.
        """
        if not len(self._movers):
            return {}
        if near is not None and not np.count_nonzero(near):
            return self._far
        measured = self.sim.separation(near)
        distance = np.full(len(self._watched), np.inf)
        speeds = np.zeros((2, len(self._watched)))
        distance[self._movers] = measured.distance
        speeds[:, self._movers] = measured.closing_robot, measured.closing_mover
        return {"separation": distance, "closing_robot": speeds[0], "closing_mover": speeds[1]}
