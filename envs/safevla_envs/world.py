"""The physics of one home: control ticks, named quantities in SI units, frames. Knows no task."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np

from safevla_envs.arguments import check_positive
from safevla_envs.control.assist import Welds
from safevla_envs.control.grasps import Grasp, grip_force, nearest_grasp
from safevla_envs.control.holding import Holding
from safevla_envs.control.patrol import MoverPath
from safevla_envs.edits import Edits
from safevla_envs.record.contact_torque import ContactTorque
from safevla_envs.record.recorder import Recorder
from safevla_envs.record.scan import Scan
from safevla_envs.record.separation import Separation, SeparationMeter
from safevla_envs.record.sight import Sight
from safevla_envs.record.speeds import add_speeds
from safevla_envs.robots import make_robot
from safevla_envs.robots.robot import Robot
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.home import cached_home
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.scenes.surroundings import Surroundings
from safevla_envs.scenes.walkers import mover_joints, mover_servos

__all__ = ["TICK", "TORSO_SPEED", "Grasp", "SimulationError", "World"]

TICK = 0.05
"""s; length of a control tick."""
SETTLING_HEIGHT = 0.001
"""m; movable bodies start this far above the floor."""
FIRM = 10
"""Passes of MuJoCo's no-slip solver in every substep while a gripper that closes or is closed
touches something, for tasks that carry things: its usual friction is soft, and lets what is held
creep by millimetres a second. Always on, they would cost more than all else in a full home."""
TORSO_SPEED = 0.1
"""m/s; the torso's set-point moves no faster."""
STILL = 0.3
"""s; after this long without a new set-point the robot's own motion has died down."""
_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
_LOST = (mujoco.mjtWarning.mjWARN_CONTACTFULL, mujoco.mjtWarning.mjWARN_CNSTRFULL)


class SimulationError(RuntimeError):
    """The simulation diverged (NaN or huge values); the message names MuJoCo's warning."""


class World:
    """A compiled home, its state and its cameras.

    Attributes:
        grasp: what a motion in progress reaches for, or None.
        surroundings: what stands around the robot.

    Args:
        timestep: physics step in s; 0.05 must be a multiple of it.
        visuals: robot meshes, "light" or "full".
        robot: which one; the usual one if None.
        firm: whether what is gripped may not creep, see `FIRM`.
        assisted: whether what is held is welded to the hand, see `Welds`.

    Raises:
        ValueError: if `timestep` does not divide a control tick.
    """

    def __init__(
        self,
        *,
        timestep: float = 0.005,
        visuals: str = "light",
        robot: Robot | None = None,
        firm: bool = False,
        assisted: bool = False,
    ):
        check_positive("timestep", timestep)
        self.substeps = round(TICK / timestep)
        if self.substeps < 1 or abs(self.substeps * timestep - TICK) > 1e-9:
            raise ValueError(f"timestep={timestep}: 0.05 s must be a whole multiple of it")
        self.timestep, self.visuals, self.robot = timestep, visuals, robot or make_robot()
        self.firm, self.assisted = firm, assisted
        self.scenario: Scenario | None = None

    def load(self, scenario: Scenario, edits: Edits | None = None) -> None:
        """Puts a scenario in place: compiles its layout if it is new, else edits the state."""
        edits = edits or Edits()
        home = cached_home(scenario, self.timestep, self.visuals, self.robot, self.assisted)
        if edits.model or self.assisted:  # others use the cached model too
            model = copy(home.model)
            for change in edits.model:
                change(model, self.robot)
            home = replace(home, model=model)
        if self.scenario is None or home is not self.home:
            self.home, self.model = home, home.model
            self.data = mujoco.MjData(self.model)
            torque = ContactTorque(self.model, self.robot.names.root, self.robot.names.arm_joints)
            self.recorder = Recorder(self.model, self.data, self.home.watch, self.substeps, torque)
            self._index()
        self.scenario = scenario
        self.surroundings = Surroundings(self, scenario)
        self.grasp: Grasp | None = None
        self._reset(scenario)
        self._frame_edits = edits.frame
        for edit in edits.frame:
            edit.begin(self)

    def _index(self) -> None:
        model = self.model

        names = self.robot.names

        def joints(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
            found = [model.joint(name) for name in names]
            qpos = np.array([joint.qposadr[0] for joint in found], dtype=int)
            return qpos, np.array([joint.dofadr[0] for joint in found], dtype=int)

        def servos(names: Sequence[str], kind: str = "position") -> np.ndarray:
            return np.array([model.actuator(f"{kind}/{name}").id for name in names], dtype=int)

        torso = () if names.torso_joint is None else (names.torso_joint,)
        self._base_q, self._base_v = joints(names.base_joints)
        self._arm_q, self._arm_v = joints(names.arm_joints)
        self._finger_q, _ = joints(names.finger_joints)
        self._torso_q, _ = joints(torso)
        self._torso_u = servos(torso)
        self._torso_range = np.array([model.joint(n).range for n in torso]).reshape(-1, 2)
        self._base_u = servos(names.base_joints)
        self._base_du = servos(names.base_joints, "velocity")
        self._root = model.body(names.root).id
        self._arm_u, self._finger_u = servos(names.arm_joints), servos(names.finger_joints)
        self._arm_act = model.actuator_actadr[self._arm_u]
        self._home = np.array([self.robot.home.get(name, 0.0) for name in names.arm_joints])
        self._grip_site = model.site(names.grip_site).id
        self._partner_bodies = np.array([model.body(n).id for n in self.home.partners])
        self._sight = Sight(model)
        outline = self.robot.scanners
        self._scan = None if outline is None else Scan(model, outline)
        self._index_movers()
        self._free = np.flatnonzero(model.body_dofnum[self._partner_bodies] == 6)
        first = model.body_dofadr[self._partner_bodies[self._free]]
        self._free_v = (first[:, None] + np.arange(6)).ravel()
        fingers = [model.body(name).id for name in names.finger_bodies]
        self._holding = Holding(model, self._partner_bodies, self._free, fingers)
        self._welds = Welds(model, self.data, self._grip_site, self.home.partners)
        self.arm_range = np.array([model.joint(n).range for n in names.arm_joints])
        self.working_range = self.robot.working_range(self.arm_range)

    def _index_movers(self) -> None:
        """Looks up the movers' joints and servos: (M, 3) addresses each."""
        model, names = self.model, self.home.movers

        def ids(of: Any, field: str) -> np.ndarray:
            found = [[getattr(of(n), field)[0] for n in mover_joints(name)] for name in names]
            return np.array(found, dtype=int).reshape(-1, 3)

        self._mover_q, self._mover_v = ids(model.joint, "qposadr"), ids(model.joint, "dofadr")
        servos = [[model.actuator(n).id for n in mover_servos(name)] for name in names]
        self._mover_u = np.array(servos, dtype=int).reshape(-1, 3)
        self._mover_partners = np.array([self.home.partners.index(n) for n in names], dtype=int)
        self.meter = SeparationMeter(model, self.data, self.robot.names.root, names)

    def _reset(self, scenario: Scenario) -> None:
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        data.qpos[self._base_q] = scenario.robot_start[: len(self._base_q)]
        data.qpos[self._arm_q] = self._home
        self.set_torso(self.robot.home.get(self.robot.names.torso_joint or "", 0.0))
        data.qpos[self._torso_q] = self._torso_reference
        opening = self.robot.hand.opening
        data.qpos[self._finger_q] = (opening, -opening)
        for placement in scenario.objects:
            if not placement.fixed:
                adr = model.joint(f"{placement.name}/free").qposadr[0]
                x, y, z = placement.position
                half = placement.yaw / 2
                pose = [x, y, z + SETTLING_HEIGHT, np.cos(half), 0.0, 0.0, np.sin(half)]
                data.qpos[adr : adr + 7] = pose
        self._paths = [MoverPath(mover) for mover in scenario.movers]
        for path, joints in zip(self._paths, self._mover_q):
            data.qpos[joints] = path.pose()
        data.ctrl[:] = 0.0
        data.ctrl[self._base_u] = data.qpos[self._base_q]
        data.ctrl[self._torso_u] = self._torso_reference
        data.act[self._arm_act] = self._home
        self._arm_reference, self._acted = self._home.copy(), -np.inf
        self.set_gripper(opening)
        self._set_friction()
        mujoco.mj_forward(model, data)

    def _set_friction(self) -> None:
        """Says how firm friction is now; the model may be another world's too."""
        firm = self.firm and self.gripping and self._holding.touched
        self.model.opt.noslip_iterations = FIRM if firm else 0

    def tick(self) -> float:
        """Runs one control tick with the set-points as they are; returns its start time in s.

        Movers go on along their paths.

        Raises:
            SimulationError: if the state has become NaN or huge.
        """
        start = self.data.time
        self._set_friction()
        # the arm's set-points move evenly and arrive at the end of the tick
        way = self._arm_reference - self.data.act[self._arm_act]
        self.data.ctrl[self._arm_u] = way / TICK
        rise = self._torso_reference - self.data.ctrl[self._torso_u]
        rise = np.clip(rise, -TORSO_SPEED * TICK, TORSO_SPEED * TICK)
        self.data.ctrl[self._torso_u] += rise
        if self.data.ctrl[self._base_du].any() or np.abs(way).max() > 1e-3 or rise.any():
            self._acted = start + TICK
        for i, path in enumerate(self._paths):
            pose, rate = self.data.qpos[self._mover_q[i]], self.data.qvel[self._mover_v[i]]
            self.data.ctrl[self._mover_u[i]] = path.drive(pose, rate)
        self.recorder.tick()
        for warning in _DIVERGED:
            if self.data.warning[warning].number:
                raise SimulationError(f"{warning.name} at t={self.data.time:.3f} s")
        if self.gripping:
            self._holding.follow(self.data.contact.geom, self.gripper_opening)
            self._welds.follow(self._holding.held)
        return start

    # ---- set-points -------------------------------------------------------------------------

    def set_base(self, pose: np.ndarray, velocity: np.ndarray) -> None:
        """Sets the base's reference: pose (3,) in m, rad and its velocity (3,) in m/s, rad/s.

        Nothing happens if the robot stands fixed.
        """
        if len(self._base_u):
            self.data.ctrl[self._base_u] = pose
            self.data.ctrl[self._base_du] = velocity

    def set_arm(self, positions: np.ndarray) -> None:
        """Sets the arm's reference (7,) in rad, clipped to the joint ranges.

        The servos' set-points move there in the course of the next tick.
        """
        self._arm_reference = np.clip(positions, *self.arm_range.T)

    def set_torso(self, height: float) -> None:
        """Sets the torso's reference in m, clipped to the joint's range; nothing without a torso.

        The servo's set-point moves there at `TORSO_SPEED`.
        """
        self._torso_reference = np.clip(height, *self._torso_range.T)

    def set_gripper(self, opening: float, force: float = np.inf) -> None:
        """Sets each finger's reference in m, 0 (closed) to `robot.hand.opening`.

        Fingers that are held back press with at most `force` N: the reference is so near to where
        they are that their springs give no more.
        """
        hand = self.robot.hand
        self.gripping = opening < hand.opening
        if not self.gripping:
            self._holding.release()
            self._welds.follow(self._holding.held)
        # both have one set-point, as one motor drives them: what they grip stays in the middle
        apart = self.gripper_opening / 2 - min(force, hand.force) / hand.stiffness
        self.data.ctrl[self._finger_u] = max(opening, apart) * np.array([1.0, -1.0])

    @property
    def base_reference(self) -> np.ndarray:
        """The base's set-point (3,) in m, m, rad."""
        return self.data.ctrl[self._base_u].copy() if len(self._base_u) else self.base_pose

    @property
    def arm_reference(self) -> np.ndarray:
        """The arm's set-points (7,) in rad."""
        return self._arm_reference.copy()

    @property
    def torso_reference(self) -> float:
        """Where the torso's set-point is going, in m; 0 without one."""
        return float(self._torso_reference.sum())

    @property
    def gripper_reference(self) -> float:
        """Each finger's set-point in m; below 0 it presses on beyond closed."""
        return float(self.data.ctrl[self._finger_u] @ [0.5, -0.5])

    # ---- named quantities -------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Simulated time in s."""
        return float(self.data.time)

    @property
    def base_pose(self) -> np.ndarray:
        """Pose of the base's centre (3,): x, y in m, yaw in rad (not wrapped)."""
        if not len(self._base_q):  # it stands fixed
            turn = self.data.xmat[self._root]
            return np.array([*self.data.xpos[self._root, :2], np.arctan2(turn[3], turn[0])])
        return self.data.qpos[self._base_q].copy()

    @property
    def base_velocity(self) -> np.ndarray:
        """Velocity of the base in the world frame (3,): m/s, m/s, rad/s."""
        return self.data.qvel[self._base_v].copy() if len(self._base_v) else np.zeros(3)

    @property
    def arm_positions(self) -> np.ndarray:
        """Arm joint positions (7,) in rad."""
        return self.data.qpos[self._arm_q].copy()

    @property
    def gripper_opening(self) -> float:
        """Distance between the fingers in m, 0 to twice `robot.hand.opening`."""
        return float(self.data.qpos[self._finger_q[0]] - self.data.qpos[self._finger_q[1]])

    @property
    def torso_height(self) -> float:
        """Height of the torso joint in m; 0 without one."""
        return float(self.data.qpos[self._torso_q].sum())

    @property
    def grip_axes(self) -> np.ndarray:
        """Axes of the gripper as columns (3, 3): closing, across the pads, approach."""
        return self.data.site_xmat[self._grip_site].reshape(3, 3).copy()

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
        ids, speed = self._partner_bodies, np.zeros(len(self._partner_bodies))
        movers = (self._mover_partners, self._mover_v)
        add_speeds(self.data.qvel, self._free, self._free_v, *movers, speed)
        return self.data.xpos[ids], self.data.xquat[ids], speed

    def touching(self) -> np.ndarray:
        """Returns which partners touch each other at the end of a tick, bool (P, P).

        Known as long as the robot touches anything; none touch otherwise.
        """
        return self.recorder.graph()[1:, 1:]

    @property
    def contacts_lost(self) -> bool:
        """Whether MuJoCo ran out of memory for contacts or their forces since the last reset."""
        return any(self.data.warning[kind].number for kind in _LOST)

    def body_positions(self, names: tuple[str, ...]) -> np.ndarray:
        """Positions (n, 3) in m of bodies by name."""
        ids = np.array([self.model.body(n).id for n in names], dtype=int)
        return self.data.xpos[ids]

    @property
    def mover_poses(self) -> np.ndarray:
        """Poses (M, 3) of the movers, in the scenario's order: x, y in m, yaw in rad."""
        return self.data.qpos[self._mover_q].copy()

    @property
    def mover_velocities(self) -> np.ndarray:
        """Velocities (M, 3) of the movers: m/s, m/s, rad/s."""
        return self.data.qvel[self._mover_v].copy()

    def separation(self, within: Sequence[float] | np.ndarray | None = None) -> Separation:
        """Distances between robot and movers, and who closes them; `within`: `SeparationMeter`.

        While the robot has been holding still for `STILL` s, what it moves is moved by others:
        swinging back from a push is no closing of its own.
        """
        measured = self.meter(within)
        if self.data.time - self._acted <= STILL:
            return measured
        return replace(measured, closing_robot=np.zeros(len(measured.distance)))

    def external_torque(self) -> np.ndarray:
        """Torques (7,) in N·m that contact exerts on the arm's joints."""
        if self.recorder.silent:
            return np.zeros(len(self._arm_v))
        return self.recorder.contact_torque()

    def held(self) -> np.ndarray:
        """Returns which partners the gripper holds, bool (P,).

        What both fingers touch once they close, until they open or neither has touched it for 0.1
        s: under pressure contacts come and go.
        """
        return self._holding.held.copy()

    def nearest_grasp(self, within: float) -> Grasp | None:
        """Returns the grasp nearest to the gripper within so many m; see `grasps.nearest_grasp`."""
        hand = self.grip_position, self.grip_axes[:, 0]
        bodies = self._partner_bodies[self._free]
        found = nearest_grasp(self.model, self.data, bodies, hand, within)
        if found is None:
            return None
        partner, point, axis = int(self._free[found[0]]), *found[1:]
        return Grasp(partner=partner, point=point, axis=axis, force=self.grip_force(partner))

    def grip_force(self, partner: int) -> float:
        """Returns the force in N of each finger that a partner's class bears and its mass takes."""
        assert self.scenario is not None
        name = self.home.partners[partner]
        category = next(p.category for p in self.scenario.objects if p.name == name)
        mass = float(self.model.body_mass[self._partner_bodies[partner]])
        return grip_force(CATALOG[category].bears.grip[0], mass)

    def visible(self, names: tuple[str, ...], camera: str = "navigation") -> np.ndarray:
        """Says which bodies the camera sees, by geometry alone: bool (len(names),)."""
        return self._sight.visible(self.data, names, camera)

    def scan(self) -> np.ndarray:
        """Returns the free way (BEAMS,) in m round the base, as `Scan.ranges`.

        Raises:
            ValueError: if the robot has no scanners.
        """
        if self._scan is None:
            raise ValueError(f"{self.robot.name} has no scanners")
        return self._scan.ranges(self.data, self.base_pose)

    # ---- frames -----------------------------------------------------------------------------

    def render(self, camera: str, width: int, height: int, *, pretty: bool = False) -> np.ndarray:
        """Draws a camera's view, uint8 (height, width, 3)."""
        return self.home.camera.render(
            self.data, camera, width, height, pretty=pretty, edits=self._frame_edits
        )

    def state_hash(self) -> str:
        """Hash of the physics state and of how far movers are, for determinism checks."""
        import hashlib

        size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        state = np.empty(size)
        mujoco.mj_getState(self.model, self.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        progress = np.array([*(path.progress for path in self._paths), self._acted])
        return hashlib.sha256(state.tobytes() + progress.tobytes()).hexdigest()
