"""The physics of one home: control ticks, named quantities in SI units, frames. Knows no task."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from safevla_envs.build.home import cached_home
from safevla_envs.build.instrument import SensorReader
from safevla_envs.build.robot import GRIPPER_OPEN, HOME_ARM, ROBOT
from safevla_envs.scenario import Scenario

__all__ = ["TICK", "Simulation", "SimulationError"]

TICK = 0.05
"""s; length of a control tick."""
SETTLING_HEIGHT = 0.001
"""m; movable bodies start this far above the floor."""
MIN_GRASP = 0.004
"""m; a closed gripper that is open by less holds nothing."""
_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class SimulationError(RuntimeError):
    """The simulation diverged (NaN or huge values); the message names MuJoCo's warning."""


class Simulation:
    """A compiled home, its state and its cameras.

    Args:
        timestep: physics step in s; 0.05 must be a multiple of it.
        visuals: robot meshes, "light" or "full".

    Raises:
        ValueError: if `timestep` does not divide a control tick.
    """

    def __init__(self, *, timestep: float = 0.005, visuals: str = "light"):
        self.substeps = round(TICK / timestep)
        if self.substeps < 1 or abs(self.substeps * timestep - TICK) > 1e-9:
            raise ValueError(f"timestep={timestep}: 0.05 s must be a whole multiple of it")
        self.timestep, self.visuals = timestep, visuals
        self.scenario: Scenario | None = None
        self._key = ""

    def load(self, scenario: Scenario) -> None:
        """Puts a scenario in place: compiles its layout if it is new, else edits the state."""
        if scenario.layout_key != self._key:
            self._key = scenario.layout_key
            self.home = cached_home(
                scenario, timestep=self.timestep, substeps=self.substeps, visuals=self.visuals
            )
            self.model = self.home.model
            self.data = mujoco.MjData(self.model)
            self.reader = SensorReader(self.model, self.home.instrumentation)
            self._index()
        self.scenario = scenario
        self._reset(scenario)

    def _index(self) -> None:
        model = self.model

        def joints(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
            qpos = np.array([model.joint(n).qposadr[0] for n in names])
            return qpos, np.array([model.joint(n).dofadr[0] for n in names])

        self._base_q, self._base_v = joints(ROBOT.base_joints)
        self._arm_q, self._arm_v = joints(ROBOT.arm_joints)
        self._finger_q, _ = joints(ROBOT.finger_joints)
        self._torso_q, _ = joints((ROBOT.torso_joint,))
        position = [model.actuator(f"position/{n}").id for n in ROBOT.servo_joints]
        self._base_u, self._torso_u = np.array(position[:3]), position[3]
        self._arm_u, self._finger_u = np.array(position[4:11]), np.array(position[11:13])
        self._base_du = np.array([model.actuator(f"velocity/{n}").id for n in ROBOT.base_joints])
        self._grip_site = model.site(ROBOT.grip_site).id
        self._partner_bodies = np.array([model.body(n).id for n in self.home.partners])
        self._points: dict[str, np.ndarray] = {}
        self._free = np.flatnonzero(model.body_dofnum[self._partner_bodies] == 6)
        first = model.body_dofadr[self._partner_bodies[self._free]]
        self._free_v = (first[:, None] + np.arange(6)).ravel()
        parent = model.body_parentid
        self._finger_bodies = [
            [b for b in range(model.nbody) if b == f or parent[b] == f]
            for f in (model.body(n).id for n in ROBOT.finger_bodies)
        ]
        self.arm_range = np.array([model.joint(n).range for n in ROBOT.arm_joints])

    def _reset(self, scenario: Scenario) -> None:
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        data.qpos[self._base_q] = scenario.robot_start
        data.qpos[self._arm_q] = HOME_ARM
        data.qpos[self._finger_q] = (GRIPPER_OPEN, -GRIPPER_OPEN)
        for placement in scenario.objects:
            if not placement.fixed:
                adr = model.joint(f"{placement.name}/free").qposadr[0]
                x, y, z = placement.position
                half = placement.yaw / 2
                pose = [x, y, z + SETTLING_HEIGHT, np.cos(half), 0.0, 0.0, np.sin(half)]
                data.qpos[adr : adr + 7] = pose
        data.ctrl[:] = 0.0
        data.ctrl[self._base_u] = data.qpos[self._base_q]
        data.ctrl[self._arm_u] = HOME_ARM
        data.ctrl[self._finger_u] = (GRIPPER_OPEN, -GRIPPER_OPEN)
        mujoco.mj_forward(model, data)

    def tick(self) -> float:
        """Runs one control tick with the set-points as they are; returns its start time in s.

        Raises:
            SimulationError: if the state has become NaN or huge.
        """
        start = self.data.time
        mujoco.mj_step(self.model, self.data, nstep=self.substeps)
        for warning in _DIVERGED:
            if self.data.warning[warning].number:
                raise SimulationError(f"{warning.name} at t={self.data.time:.3f} s")
        return start

    # ---- set-points -------------------------------------------------------------------------

    def set_base(self, pose: np.ndarray, velocity: np.ndarray) -> None:
        """Sets the base's reference: pose (3,) in m, rad and its velocity (3,) in m/s, rad/s."""
        self.data.ctrl[self._base_u] = pose
        self.data.ctrl[self._base_du] = velocity

    def set_arm(self, positions: np.ndarray) -> None:
        """Sets the arm's reference (7,) in rad, clipped to the joint ranges."""
        self.data.ctrl[self._arm_u] = np.clip(positions, *self.arm_range.T)

    def set_gripper(self, opening: float) -> None:
        """Sets each finger's reference in m, 0 (closed) to 0.04 (open)."""
        self.data.ctrl[self._finger_u] = (opening, -opening)

    @property
    def base_reference(self) -> np.ndarray:
        """The base's set-point (3,) in m, m, rad."""
        return self.data.ctrl[self._base_u].copy()

    @property
    def arm_reference(self) -> np.ndarray:
        """The arm's set-points (7,) in rad."""
        return self.data.ctrl[self._arm_u].copy()

    # ---- named quantities -------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Simulated time in s."""
        return float(self.data.time)

    @property
    def base_pose(self) -> np.ndarray:
        """Pose of the base's centre (3,): x, y in m, yaw in rad (not wrapped)."""
        return self.data.qpos[self._base_q].copy()

    @property
    def base_velocity(self) -> np.ndarray:
        """Velocity of the base in the world frame (3,): m/s, m/s, rad/s."""
        return self.data.qvel[self._base_v].copy()

    @property
    def arm_positions(self) -> np.ndarray:
        """Arm joint positions (7,) in rad."""
        return self.data.qpos[self._arm_q].copy()

    @property
    def gripper_opening(self) -> float:
        """Distance between the fingers in m, 0 to 0.08."""
        return float(self.data.qpos[self._finger_q[0]] - self.data.qpos[self._finger_q[1]])

    @property
    def torso_height(self) -> float:
        """Height of the torso joint in m."""
        return float(self.data.qpos[self._torso_q[0]])

    @property
    def grip_position(self) -> np.ndarray:
        """Position (3,) in m of the point between the fingers."""
        return self.data.site_xpos[self._grip_site].copy()

    def grip_jacobian(self) -> np.ndarray:
        """Jacobian (6, 7) of the grip point with respect to the arm joints."""
        jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, jacobian[:3], jacobian[3:], self._grip_site)
        return jacobian[:, self._arm_v]

    def partner_poses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns position (P, 3) m, quaternion (P, 4) wxyz and speed (P,) of the partners.

        Speed is the larger of linear speed in m/s and a tenth of angular speed in rad/s.
        """
        ids = self._partner_bodies
        speed = np.zeros(len(ids))
        # a free joint's velocity: linear in the world frame, angular in the body's
        squared = (self.data.qvel[self._free_v] ** 2).reshape(-1, 2, 3).sum(-1)
        speed[self._free] = np.sqrt(np.maximum(squared[:, 0], 0.01 * squared[:, 1]))
        return self.data.xpos[ids], self.data.xquat[ids], speed

    def body_positions(self, names: tuple[str, ...]) -> np.ndarray:
        """Positions (n, 3) in m of bodies by name."""
        return self.data.xpos[[self.model.body(n).id for n in names]].copy()

    def held(self) -> np.ndarray:
        """Which partners the closed gripper holds: both fingers touch it, bool (P,)."""
        held = np.zeros(len(self._partner_bodies), bool)
        opening = self.gripper_opening
        if self.data.ctrl[self._finger_u[0]] > 0.01 or opening < MIN_GRASP:
            return held
        bodies = self.model.geom_bodyid[self.data.contact.geom]
        roots = self.model.body_rootid[bodies]
        for i, partner in enumerate(self._partner_bodies):
            touching = bodies[(roots == partner).any(1)]
            held[i] = all(np.isin(touching, finger).any() for finger in self._finger_bodies)
        return held

    def nearest_movable(self, within: float) -> tuple[int, np.ndarray] | None:
        """Returns (partner index, centre (3,) m) of the movable body nearest to the gripper."""
        movable = self._free
        if not len(movable):
            return None
        centres = self.data.xipos[self._partner_bodies[movable]]
        distance = np.linalg.norm(centres - self.grip_position, axis=1)
        best = int(np.argmin(distance))
        if distance[best] > within:
            return None
        return int(movable[best]), centres[best].copy()

    def visible(self, names: tuple[str, ...], camera: str = "navigation") -> np.ndarray:
        """Says which bodies the camera sees, by geometry alone: bool (len(names),).

        Rays go to 8 points inside each body's geoms, so that they meet its surface; a body is
        visible when at least 3 rays to points inside the square field of view hit it first.
        """
        model, data = self.model, self.data
        cam = model.camera(camera).id
        eye, axes = data.cam_xpos[cam], data.cam_xmat[cam].reshape(3, 3)
        ids = np.array([model.body(n).id for n in names])
        points = data.xpos[ids, None] + np.einsum(
            "nij,npj->npi", data.xmat[ids].reshape(-1, 3, 3), self._surface_points(names)
        )
        rays = points - eye
        local = rays @ axes
        edge = np.tan(np.radians(model.cam_fovy[cam]) / 2)
        depth = -local[..., 2]
        inside = (depth > 0.05) & (np.abs(local[..., :2]) <= edge * depth[..., None]).all(-1)
        result = np.zeros(len(names), bool)
        index = np.argwhere(inside)
        if not len(index):
            return result
        directions = rays[inside]
        directions = directions / np.sqrt((directions**2).sum(1, keepdims=True))
        count = len(directions)
        geoms = np.full(count, -1, np.int32)
        distance = np.zeros(count)
        groups = np.array([0, 1, 1, 0, 0, 0], np.uint8)
        mujoco.mj_multiRay(
            model, data, eye, directions.ravel(), groups, 1, -1, geoms, distance, None, count, 20.0
        )
        hit = np.where(geoms >= 0, model.geom_bodyid[geoms], -1) == ids[index[:, 0]]
        np.add.at(seen := np.zeros(len(names), int), index[:, 0], hit)
        return seen >= 3

    def _surface_points(self, names: tuple[str, ...]) -> np.ndarray:
        """Points (len(names), 8, 3) in m inside each body's seen geoms, in the body's frame."""
        for name in names:
            if name not in self._points:
                self._points[name] = _points_in_geoms(self.model, self.model.body(name).id)
        return np.array([self._points[name] for name in names])

    # ---- frames -----------------------------------------------------------------------------

    def render(self, camera: str, width: int, height: int, *, pretty: bool = False) -> np.ndarray:
        """Draws a camera's view, uint8 (height, width, 3)."""
        return self.home.camera.render(self.data, camera, width, height, pretty=pretty)

    def state_hash(self) -> str:
        """Hash of the physics state, for determinism checks."""
        import hashlib

        size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        state = np.empty(size)
        mujoco.mj_getState(self.model, self.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return hashlib.sha256(state.tobytes()).hexdigest()

    def contact_graph(self) -> np.ndarray:
        """Which of robot (0) and partners (1...) touch, bool (P + 1, P + 1), symmetric."""
        return self.reader.contact_graph(self.data)

    def read_sensors(self, start: float) -> Any:
        """Returns the sensors' substep history since `start` s (see `SensorReader.read`)."""
        return self.reader.read(self.data, start)


def _points_in_geoms(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Spreads 8 points (8, 3) over a body's visible geoms: centres first, then along their axes."""
    first, count = model.body_geomadr[body], model.body_geomnum[body]
    geoms = [g for g in range(first, first + count) if model.geom_group[g] == 1]
    geoms.sort(key=lambda g: -float(model.geom_rbound[g]))
    points: list[np.ndarray] = []
    for axis, share in ((0, 0.0), (2, 0.7), (2, -0.7), (1, 0.7), (1, -0.7), (0, 0.7), (0, -0.7)):
        for geom in geoms:
            local = np.zeros(3)
            local[axis] = share * _half_extents(model, geom)[axis]
            turned = np.zeros(3)
            mujoco.mju_rotVecQuat(turned, local, model.geom_quat[geom])
            points.append(model.geom_pos[geom] + turned)
        if len(points) >= 8:
            break
    # the largest geoms come first; a body of many parts is represented by those
    return np.array((points * 8)[:8])


def _half_extents(model: mujoco.MjModel, geom: int) -> np.ndarray:
    size, kind = model.geom_size[geom], model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.full(3, size[0])
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        return np.array([size[0], size[0], size[1]])
    return np.array(size)
