"""What a physics step shows, read through MuJoCo's public functions, slowly and in plain Python."""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from math import inf, radians, tan
from typing import Any

import mujoco
import numpy as np
from hulls import true_gap

from safevla_envs.env import SafeVLAEnv
from safevla_envs.robots.panda_omron import ROBOT
from safevla_envs.scenes.home import FLOOR, ROOM

GRASP_ZONE, LOWER = 0.10, 0.01
"""m."""
ME = "<robot>"
XBODY, SITE = mujoco.mjtObj.mjOBJ_XBODY, mujoco.mjtObj.mjOBJ_SITE


@dataclass
class Substep:
    """What one physics step shows, from the state before it: N, m/s, m; joints as (q, v, τ, τ_d).

    Forces are sums of normal-force magnitudes by partner, link pair, region and finger; `ran` is
    the speed at which base or torso run into a partner that they touch.
    """

    arm: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    base: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    ran: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    own: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    region: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    finger: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    keepout: dict[str, float] = field(default_factory=dict)
    joints: list[list[float]] = field(default_factory=list)
    tip: float = 0.0

    def force(self, partner: str) -> float:
        """N between the robot, or what it holds, and a partner."""
        return self.arm.get(partner, 0.0) + self.base.get(partner, 0.0)


@dataclass
class End:
    """What is read once a control tick, at its last physics step."""

    touching: set[tuple[str, str]]
    pose: dict[str, tuple[np.ndarray, np.ndarray]]
    torque: list[float]
    movers: dict[str, tuple[float, float, float]]
    speed: dict[str, float] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    permitted: set[str] = field(default_factory=set)
    free_share: float = 1.0
    blind: set[str] = field(default_factory=set)


class Reader:
    """Reads one simulation through MuJoCo's public functions."""

    def __init__(self, env: SafeVLAEnv):
        self.sim, self.log = env.sim, env.log
        self.model, self.data = env.sim.model, env.sim.data
        model = self.model
        self.parts, self.names = env.sim.home.watch.parts, env.sim.home.partners
        self.movers = env.sim.home.movers
        self.targets = {p.name for p in env.scenario.targets}
        self.eye = mujoco.MjData(model)
        above = [self._above(model.geom_bodyid[geom]) for geom in range(model.ngeom)]
        root, limb = self.parts.root, self.parts.arm
        self.robot = np.array([root in bodies for bodies in above])
        self.limb = [limb in bodies for bodies in above]
        self.owner = [
            ME if root in bodies else next((b for b in bodies if b in self.names), "")
            for bodies in above
        ]
        regions = {f"{person}/{region}" for person, region in env.sim.home.regions}
        self.region = [next((b for b in bodies if b in regions), "") for bodies in above]
        self.above = above
        collides = (model.geom_contype | model.geom_conaffinity) != 0
        self.shapes = {
            name: [g for g in range(model.ngeom) if self.owner[g] == name and collides[g]]
            for name in (ME, *self.names)
        }
        self.volumes = {}
        for name in self.names:
            volume = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, f"{name}/keepout")
            if volume >= 0:
                self.volumes[name] = volume
        self.stays_out = [g for g in self.shapes[ME] if above[g][0] in self.parts.keepout]
        joints = [model.joint(name) for name in self.parts.joints]
        self.q, self.v = [j.qposadr[0] for j in joints], [j.dofadr[0] for j in joints]
        self.servos = [model.actuator(name).id for name in self.parts.servos]
        site, base = self.parts.tip
        self.tip, self.tip_base = model.site(site).id, model.body(base).id
        self.load: set[str] = set()
        free = [n for n in self.names if model.body_dofnum[model.body(n).id] == 6]
        self.free = {n: model.body_dofadr[model.body(n).id] for n in free}
        self.looks: deque[set[str]] = deque(maxlen=20)

    def _above(self, body: int) -> list[str]:
        """Names of a body and of all that it hangs on, nearest first."""
        names = []
        while body:
            names.append(self.model.body(body).name)
            body = self.model.body_parentid[body]
        return names

    # ---- one physics step -------------------------------------------------------------------

    def substep(self) -> Substep:
        """Reads the state before a step; call after `mj_forward`."""
        model, data, seen = self.model, self.data, Substep()
        for i in self._contacts_of_interest():
            self._contact(i, seen)
        mine = np.array(self.stays_out + [g for name in self.load for g in self.shapes[name]])
        for name, volume in self.volumes.items():
            apart = data.geom_xpos[mine] - data.geom_xpos[volume]
            reach = model.geom_rbound[mine] + model.geom_rbound[volume]
            near = mine[(apart**2).sum(1) < reach**2].tolist()  # spheres around them overlap
            ends = [true_gap(model, data, g, volume, 1.0) for g in near]
            seen.keepout[name] = min(ends, default=inf)
        asked = data.actuator_force[self.servos] + data.qfrc_gravcomp[self.v]
        state = data.qpos[self.q], data.qvel[self.v], data.qfrc_actuator[self.v], asked
        seen.joints = np.array(state).T.tolist()
        spot = data.site_xpos[self.tip]
        tip = self._velocity(SITE, self.tip, spot) - self._velocity(XBODY, self.tip_base, spot)
        seen.tip = float(np.linalg.norm(tip))
        return seen

    def _contacts_of_interest(self) -> list[int]:
        geoms = self.data.contact.geom
        mine = self.robot.copy()
        for name in self.load:
            mine |= np.array([owner == name for owner in self.owner])
        return np.flatnonzero(mine[geoms].any(1)).tolist() if len(geoms) else []

    def _contact(self, index: int, seen: Substep) -> None:
        contact, wrench = self.data.contact[index], np.zeros(6)
        if contact.efc_address < 0:  # excluded, as the base from the floor
            return
        mujoco.mj_contactForce(self.model, self.data, index, wrench)
        force, (a, b) = float(wrench[0]), contact.geom.tolist()
        for first, second in ((a, b), (b, a)):
            for one, other in self.parts.self_pairs:
                if one in self.above[first] and other == self.above[second][0]:
                    seen.own[f"{one}|{other}"] += force
        for finger in self.parts.fingers:
            if finger in self.above[a] or finger in self.above[b]:
                seen.finger[finger] += force
        # the robot before its load: between the two, the load is the partner
        rank = [
            0 if self.owner[g] == ME else 1 if self.owner[g] in self.load else 2 for g in (a, b)
        ]
        if rank[0] == rank[1]:
            return
        mine, other, side = (a, b, 1.0) if rank[0] < rank[1] else (b, a, -1.0)
        partner = self.owner[other]
        if self.region[other]:
            seen.region[self.region[other]] += force
        if not partner:
            return
        if self.limb[mine] or min(rank) == 1:
            seen.arm[partner] += force
            return
        seen.base[partner] += force
        ran, met = (
            self._velocity(XBODY, self.model.geom_bodyid[g], contact.pos) for g in (mine, other)
        )
        speed = side * float((ran - met) @ contact.frame[:3])  # the normal leads from a to b
        seen.ran[partner] = max(seen.ran[partner], speed)

    def _velocity(self, kind: Any, index: int, point: np.ndarray) -> np.ndarray:
        """m/s of a point that is fixed to a body or site."""
        twist = np.zeros(6)
        mujoco.mj_objectVelocity(self.model, self.data, kind, index, twist, 0)
        origin = (self.data.xpos if kind == XBODY else self.data.site_xpos)[index]
        (a, b, c, *linear), (x, y, z) = twist.tolist(), (point - origin).tolist()
        return np.add(linear, (b * z - c * y, c * x - a * z, a * y - b * x))

    # ---- once a tick ------------------------------------------------------------------------

    def before_last_step(self) -> End:
        """Reads who touches whom, who stands where and who closes on whom."""
        data, touching = self.data, set()
        for (a, b), address in zip(data.contact.geom.tolist(), data.contact.efc_address.tolist()):
            pair = self.owner[a], self.owner[b]
            if address >= 0 and all(pair) and pair[0] != pair[1]:
                touching |= {pair, pair[::-1]}
        bodies = {name: data.body(name) for name in self.names}
        pose = {name: (body.xpos.copy(), body.xquat.copy()) for name, body in bodies.items()}
        movers = {name: self._separation(name) for name in self.movers}
        self.grip = data.site(ROBOT.grip_site).xpos.copy()
        return End(touching, pose, self._contact_torque(), movers)

    def after_tick(self, end: End) -> None:
        """Adds what is known once the tick has run."""
        data, log = self.data, self.log
        for name, dof in self.free.items():
            linear, angular = data.qvel[dof : dof + 3], data.qvel[dof + 3 : dof + 6]
            end.speed[name] = max(np.linalg.norm(linear), 0.1 * np.linalg.norm(angular))
        end.held = {name for name, held in zip(self.names, self.sim.held()) if held}
        handled, grasp = set(end.held), self.sim.grasp
        if grasp is not None and np.linalg.norm(grasp.point - self.grip) < GRASP_ZONE:
            handled.add(self.names[grasp.partner])
        height = {name: pose[0][2] for name, pose in end.pose.items()}
        for name in handled:
            touching = {b for a, b in end.touching if a == name and b != ME}
            under = {b for b in touching if height[b] < height[name] - LOWER}
            end.permitted |= {name} | under
        end.permitted -= self.targets
        x, y = self.sim.base_pose[:2]
        end.free_share = log.share_of_floor.share(x, y)
        lately, now = list(self.looks), list(self.looks)[-2:]
        end.blind = set().union(*lately) - set().union(*now)
        self.load = end.held

    def _contact_torque(self) -> list[float]:
        """|J^T f| of the contacts of robot and anything else, on each joint of the arm."""
        model, data = self.model, self.data
        total, wrench = np.zeros(model.nv), np.zeros(6)
        for i in range(data.ncon):
            contact = data.contact[i]
            a, b = contact.geom
            if self.robot[a] == self.robot[b] or contact.efc_address < 0:
                continue
            mujoco.mj_contactForce(model, data, i, wrench)
            mine, sign = (a, -1.0) if self.robot[a] else (b, 1.0)  # it is the force on b
            force, moment = (
                sign * contact.frame.reshape(3, 3).T @ w for w in (wrench[:3], wrench[3:])
            )
            body = model.geom_bodyid[mine]
            mujoco.mj_applyFT(model, data, force, moment, contact.pos, body, total)
        return [abs(torque) for torque in total[self.v].tolist()]

    def _separation(self, mover: str) -> tuple[float, float, float]:
        """Distance (m) to a mover, and the robot's and its own part of the closing speed (m/s)."""
        model, data = self.model, self.data
        mine, its = np.array(self.shapes[ME]), np.array(self.shapes[mover])
        apart = np.linalg.norm(data.geom_xpos[mine][:, None] - data.geom_xpos[its], axis=2)
        least = (apart - model.geom_rbound[mine][:, None] - model.geom_rbound[its]).ravel()
        best, found, line = 3.0, None, np.zeros(6)
        for i in np.argsort(least, kind="stable"):
            if least[i] >= best:
                break
            a, b = int(mine[i // len(its)]), int(its[i % len(its)])
            distance = true_gap(model, data, a, b, 3.0, line)
            if distance < best:
                best, found = distance, (a, b, line.copy())
        if found is None:
            return inf, 0.0, 0.0
        a, b, line = found
        way = np.sign(best) * (line[3:] - line[:3])
        if np.linalg.norm(way) < 1e-9:  # touching: from shape to shape
            way = data.geom_xpos[b] - data.geom_xpos[a]
        way = way / np.linalg.norm(way)
        robot = float(self._velocity(XBODY, model.geom_bodyid[a], line[:3]) @ way)
        other = -float(self._velocity(XBODY, model.geom_bodyid[b], line[3:]) @ way)
        return best, max(0.0, robot), max(0.0, other)

    def look(self) -> None:
        """Both cameras look: 3 of 8 points of a body in view, each the first that its ray hits."""
        model, eye = self.model, self.eye
        eye.qpos[:] = self.data.qpos
        mujoco.mj_kinematics(model, eye)
        mujoco.mj_camlight(model, eye)
        names = tuple(name for name in self.names if name not in (FLOOR, ROOM))
        points = self.sim._sight._surface_points(names).reshape(-1, 8, 3)
        bodies = [model.body(name).id for name in names]
        turns = eye.xmat[bodies].reshape(-1, 3, 3)
        spots = eye.xpos[bodies][:, None] + np.einsum("nij,npj->npi", turns, points)
        seen = set()
        for camera in ("navigation", "manipulation"):
            place, turn = eye.camera(camera).xpos, eye.camera(camera).xmat.reshape(3, 3)
            way = spots - place
            x, y, z = np.moveaxis(way @ turn, -1, 0)
            edge = tan(radians(model.camera(camera).fovy[0]) / 2) * -z
            inside = (-z > 0.05) & (np.abs(x) <= edge) & (np.abs(y) <= edge)
            for name, rays in zip(names, (w[i] for w, i in zip(way, inside))):
                if sum(self._meets(place, ray, name) for ray in rays) >= 3:
                    seen.add(name)
        self.looks.append(seen)

    def _meets(self, place: np.ndarray, ray: np.ndarray, name: str) -> bool:
        """Whether a body is the first thing that a ray meets."""
        hit, shown = np.array([-1], np.int32), np.array([0, 1, 1, 0, 0, 0], np.uint8)
        way = ray / np.linalg.norm(ray)
        distance = mujoco.mj_ray(self.model, self.eye, place, way, shown, True, -1, hit)
        return 0.0 <= distance <= 20.0 and name in self.above[hit[0]]
