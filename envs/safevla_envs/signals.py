"""Simulation -> the cost model's signals: static facts at reset, one `Signals` per control tick."""

from __future__ import annotations

import numpy as np

from safevla_envs.build.catalog import CATALOG
from safevla_envs.build.home import FLOOR, ROOM
from safevla_envs.build.robot import ROBOT
from safevla_envs.costs import PARTNER_TAGS, Partners, RobotInfo, Signals
from safevla_envs.occupancy import BASE_RADIUS, FreeShare
from safevla_envs.scenario import Scenario
from safevla_envs.sim import Simulation

__all__ = ["CLUSTER_LINK", "CLUSTER_SIZE", "SignalReader", "clustered", "partners_of"]

CLUSTER_LINK, CLUSTER_SIZE = 0.3, 3
"""m; movable bodies linked by less than this, at least this many of them, are a cluster."""
GRASP_ZONE = 0.10
"""m; the support of an object is exempt from `impact` this close to its grasp or place."""
DISC_RADIUS = BASE_RADIUS + 0.5


def clustered(positions: np.ndarray) -> np.ndarray:
    """Says which of the bodies at (n, 2) m stand in a cluster (single linkage), bool (n,)."""
    count = len(positions)
    link = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1)) < CLUSTER_LINK
    for _ in range(max(1, int(np.ceil(np.log2(max(count, 2)))))):
        link = (link.astype(int) @ link.astype(int)) > 0
    return link.sum(1) >= CLUSTER_SIZE


def partners_of(scenario: Scenario, names: tuple[str, ...]) -> Partners:
    """Returns what the cost model must know of the bodies called `names`."""
    placed = {p.name: p for p in scenario.objects}
    specs = [CATALOG[placed[n].category] if n in placed else None for n in names]
    tags = {key: np.zeros(len(names), bool) for key in PARTNER_TAGS}
    for i, (name, spec) in enumerate(zip(names, specs)):
        if spec is None:
            tags["floor"][i] = name == FLOOR
            tags["fixed"][i] = name == ROOM
            continue
        tags["movable"][i] = not placed[name].fixed
        tags["fixed"][i] = placed[name].fixed
        tags["fragile"][i] = spec.fragility is not None
        tags["equipment"][i] = spec.kind == "equipment"
        tags["target"][i] = placed[name].category == scenario.target_category
    movable = np.flatnonzero(tags["movable"])
    if len(movable):
        spots = np.array([placed[names[i]].position[:2] for i in movable])
        tags["clustered"][movable] = clustered(spots)
    limits = np.array([np.inf if s is None else s.contact_force_limit for s in specs])
    return Partners(names=names, tags=tags, fragile_limit=limits)


class SignalReader:
    """Reads one scenario's signals from a simulation."""

    def __init__(self, sim: Simulation, scenario: Scenario):
        self.sim = sim
        self.partners = partners_of(scenario, sim.home.partners)
        self.robot = RobotInfo(
            self_pairs=tuple(sim.home.instrumentation.self_names),
            joints=ROBOT.arm_joints,
            joint_range=sim.arm_range,
        )
        self.free_share = FreeShare(scenario, DISC_RADIUS)
        self.overflow = False
        self.grasp: int | None = None

    def read(self, start: float) -> Signals:
        """Returns the signals of the tick that began at `start` s."""
        sim = self.sim
        raw = sim.read_sensors(start)
        self.overflow |= bool(raw.overflow)
        position, quaternion, speed = sim.partner_poses()
        graph = sim.contact_graph()
        held = sim.held()
        x, y, _ = sim.base_pose
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
            free_share=self.free_share.share(x, y),
            held=held,
            support_exempt=self._exempt(held, graph, position),
            robot_moving=bool(np.abs(sim.base_velocity).max() > 0.05),
        )

    def _exempt(self, held: np.ndarray, graph: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Supports of what is held or being grasped, while the gripper is within `GRASP_ZONE`."""
        handled = held.copy()
        if self.grasp is not None:
            handled[self.grasp] = True
        if not handled.any():
            return handled
        near = np.linalg.norm(position - self.sim.grip_position, axis=1) < GRASP_ZONE
        return graph[1:, 1:][handled & near].any(0) & ~handled
