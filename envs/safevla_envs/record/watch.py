"""What is watched in a compiled model: ids and masks by name, from any `MjModel`.

Nothing is added to the model. One sensor is used where it is there (`add_touch_counter`): it counts
the robot's contacts, so that compiled substeps need not return to Python to look for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

__all__ = [
    "KEEPOUT_CUTOFF",
    "TOUCHES",
    "RobotParts",
    "Watch",
    "add_touch_counter",
    "body_id",
    "subtree",
]

KEEPOUT_CUTOFF = 0.25
"""m; larger distances to keep-out volumes read as this."""
TOUCHES = "safety/touches"
"""Sensor of the number of the robot's contacts."""


@dataclass(frozen=True, kw_only=True)
class RobotParts:
    """Names of what is watched of a robot.

    Attributes:
        root: Body whose subtree is the robot.
        joints: J joints whose position is recorded.
        servos: Actuators of the joints, one each, or none; with them speed and torque are recorded.
        tip: Site whose speed is recorded, and the body relative to which; or None.
        fingers: F bodies whose contacts with anything are recorded.
        self_pairs: L (a, b): contacts between the subtree of `a` and the single body `b`.
        arm: Body whose subtree is arm and hand; the rest is base and torso. None: there is no base.
        keepout: Bodies (without subtrees) whose colliding geoms must stay out of keep-out volumes.
    """

    root: str
    joints: tuple[str, ...] = ()
    servos: tuple[str, ...] = ()
    tip: tuple[str, str] | None = None
    fingers: tuple[str, ...] = ()
    self_pairs: tuple[tuple[str, str], ...] = ()
    arm: str | None = None
    keepout: tuple[str, ...] = ()

    @property
    def self_names(self) -> tuple[str, ...]:
        """L readable names of the link pairs."""
        return tuple(f"{a}|{b}" for a, b in self.self_pairs)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Ids of what is watched in one compiled model.

    Attributes:
        parts: The robot.
        partners: P bodies that each count, with their subtrees, as one contact partner.
        robot: bool (ngeom,), geoms of the robot.
        arm: bool (ngeom,), geoms of arm and hand.
        body: int (ngeom,), the body that each geom is part of.
        others: bool (ngeom, P + R), geoms of partners and regions.
        outer: bool (ngeom, L), the one side of the link pairs,
        inner: and the other.
        fingers: bool (ngeom, F).
        node: int (ngeom,), 0 for the robot, i + 1 for partner i, P + 1 for anything else.
        qpos: int (J,), addresses of joint positions.
        dofs: int (J,), of joint speeds and torques, or (0,) without servos.
        servos: int (J,) or (0,), actuators.
        tip: int (3,), site, its body and the body relative to which; -1 without a tip.
        inside: int (n,), geoms of the robot that must stay out of the volumes.
        volumes: int (D,), geoms of the volumes.
        owners: int (D,), partners whose keep-out volumes these are.
        touches: Address of the sensor that counts the robot's contacts, -1 without it.
    """

    parts: RobotParts
    partners: tuple[str, ...]
    regions: int
    robot: np.ndarray
    arm: np.ndarray
    body: np.ndarray
    others: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    fingers: np.ndarray
    node: np.ndarray
    qpos: np.ndarray
    dofs: np.ndarray
    servos: np.ndarray
    tip: np.ndarray
    inside: np.ndarray
    volumes: np.ndarray
    owners: np.ndarray
    touches: int

    @classmethod
    def of(
        cls,
        model: mujoco.MjModel,
        parts: RobotParts,
        partners: Sequence[str],
        *,
        regions: Sequence[str] = (),
        keepouts: Mapping[str, str] | None = None,
    ) -> Watch:
        """Finds robot and bodies in a compiled model.

        Args:
            model: The compiled model.
            parts: The robot.
            partners: Bodies of the partner axis.
            regions: R bodies whose contacts with the robot are recorded besides the partners'
                (they may be parts of one).
            keepouts: Partner -> geom that is its keep-out volume (it should not collide).

        Raises:
            ValueError: A name is not in the model or named twice, or sleep is enabled although the
                robot's root body cannot move.
        """
        keepouts = keepouts or {}
        _check(model, parts, partners, regions, keepouts)
        joints = [model.joint(name) for name in parts.joints]
        inside = [g for name in parts.keepout for g in _colliding(model, body_id(model, name))]
        tip = (-1, -1, -1)
        if parts.tip is not None:
            site = model.site(parts.tip[0])
            tip = (site.id, site.bodyid[0], body_id(model, parts.tip[1]))
        counter = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SENSOR, TOUCHES)
        dofs = [joint.dofadr[0] for joint in joints if parts.servos]
        return cls(
            parts=parts,
            partners=tuple(partners),
            regions=len(regions),
            robot=_geoms(model, [parts.root])[:, 0],
            arm=_geoms(model, [parts.arm or parts.root])[:, 0],
            body=model.geom_bodyid.astype(np.int64),
            others=_geoms(model, [*partners, *regions]),
            outer=_geoms(model, [a for a, _ in parts.self_pairs]),
            inner=_geoms(model, [b for _, b in parts.self_pairs], whole=False),
            fingers=_geoms(model, parts.fingers),
            node=_nodes(model, parts.root, partners),
            qpos=np.array([joint.qposadr[0] for joint in joints], dtype=np.int64),
            dofs=np.array(dofs, dtype=np.int64),
            servos=np.array([model.actuator(n).id for n in parts.servos], dtype=np.int64),
            tip=np.array(tip, dtype=np.int64),
            inside=np.array(inside, dtype=np.int64),
            volumes=np.array([model.geom(n).id for n in keepouts.values()], dtype=np.int64),
            owners=np.array([list(partners).index(name) for name in keepouts], dtype=np.int64),
            touches=-1 if counter < 0 else int(model.sensor_adr[counter]),
        )

    def load(self, held: np.ndarray) -> np.ndarray:
        """Returns the geoms of what is held, bool (ngeom,); `held` is bool (P,)."""
        return self.others[:, : len(held)][:, held].any(1)

    def pairs(self, model: mujoco.MjModel, load: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns which distances to keep-out volumes are measured.

        Args:
            model: The compiled model.
            load: bool (ngeom,), what counts as the robot's.

        Returns:
            int (n, 3), row of the volume and two geoms; and (n,) m, sum of the radii of their
            bounding spheres, infinite for a plane.
        """
        colliding = (model.geom_contype | model.geom_conaffinity) != 0
        inside = [*self.inside, *np.flatnonzero(load & colliding)]
        found = [(d, geom, volume) for d, volume in enumerate(self.volumes) for geom in inside]
        pairs = np.array(found, dtype=np.int64).reshape(-1, 3)
        radii = model.geom_rbound[pairs[:, 1:]]
        return pairs, np.where((radii == 0.0).any(1), np.inf, radii.sum(1))


def add_touch_counter(spec: mujoco.MjSpec, root: str) -> None:
    """Adds the sensor that counts the contacts of the subtree of `root`.

    It takes 0.12 us a substep; returning to Python after each takes a hundred times that.
    """
    counter = spec.add_sensor(name=TOUCHES, type=mujoco.mjtSensor.mjSENS_CONTACT)
    counter.objtype, counter.objname = mujoco.mjtObj.mjOBJ_XBODY, root
    counter.intprm[:3] = [1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 0, 1]


def _check(
    model: mujoco.MjModel,
    parts: RobotParts,
    partners: Sequence[str],
    regions: Sequence[str],
    keepouts: Mapping[str, str],
) -> None:
    kinds = mujoco.mjtObj
    named = (
        ("partners", partners, kinds.mjOBJ_BODY),
        ("regions", regions, kinds.mjOBJ_BODY),
        ("keepouts", list(keepouts.values()), kinds.mjOBJ_GEOM),
        ("parts.root", [parts.root], kinds.mjOBJ_BODY),
        ("parts.joints", parts.joints, kinds.mjOBJ_JOINT),
        ("parts.servos", parts.servos, kinds.mjOBJ_ACTUATOR),
        ("parts.fingers", parts.fingers, kinds.mjOBJ_BODY),
        ("parts.keepout", parts.keepout, kinds.mjOBJ_BODY),
        ("parts.arm", [parts.arm] if parts.arm else [], kinds.mjOBJ_BODY),
        ("parts.self_pairs", parts.self_names, None),
        ("parts.self_pairs", sorted({n for p in parts.self_pairs for n in p}), kinds.mjOBJ_BODY),
        ("parts.tip", list(parts.tip or ())[:1], kinds.mjOBJ_SITE),
        ("parts.tip", list(parts.tip or ())[1:], kinds.mjOBJ_BODY),
    )
    for field, names, kind in named:
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise ValueError(f"{field}: {twice} named twice")
        missing = [n for n in names if kind is not None and mujoco.mj_name2id(model, kind, n) < 0]
        if missing:
            raise ValueError(f"{field}: {missing} not in the model")
    if parts.servos and len(parts.servos) != len(parts.joints):
        raise ValueError(
            f"parts.servos: {len(parts.servos)} for {len(parts.joints)} joints, one each is needed"
        )
    unknown = sorted(set(keepouts) - set(partners))
    if unknown:
        raise ValueError(f"keepouts: {unknown} are not among the partners")
    if keepouts and not any(_colliding(model, body_id(model, name)) for name in parts.keepout):
        raise ValueError(f"parts.keepout={list(parts.keepout)}: no colliding geoms")
    sleep = model.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    if sleep and model.body_treeid[body_id(model, parts.root)] < 0:
        raise ValueError(
            f"parts.root={parts.root!r} is static: with sleep enabled MuJoCo drops its contacts "
            "with sleeping bodies; disable sleep or name a moving body"
        )


def _colliding(model: mujoco.MjModel, body: int) -> list[int]:
    """Returns the colliding geoms of one body."""
    first, count = model.body_geomadr[body], model.body_geomnum[body]
    geoms = range(first, first + count)
    return [g for g in geoms if model.geom_contype[g] or model.geom_conaffinity[g]]


def _geoms(model: mujoco.MjModel, names: Sequence[str], *, whole: bool = True) -> np.ndarray:
    """Returns which geoms belong to which body, with its subtree if `whole`: bool (ngeom, n)."""
    inside = np.zeros((len(names), model.nbody), dtype=bool)
    for row, name in zip(inside, names):
        body = body_id(model, name)
        row[:] = subtree(model, body) if whole else np.arange(model.nbody) == body
    return np.ascontiguousarray(inside[:, model.geom_bodyid].T)


def _nodes(model: mujoco.MjModel, root: str, partners: Sequence[str]) -> np.ndarray:
    """Returns `Watch.node`."""
    node = np.full(model.nbody, len(partners) + 1)
    owners = {body_id(model, root): 0}
    owners |= {body_id(model, name): i + 1 for i, name in enumerate(partners)}
    for body in range(1, model.nbody):
        node[body] = owners.get(body, node[model.body_parentid[body]])
    return node[model.geom_bodyid]


def body_id(model: mujoco.MjModel, name: str) -> int:
    """Returns a body's id.

    Raises:
        ValueError: if the model has no such body.
    """
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if body < 0:
        raise ValueError(f"model has no body {name!r}")
    return body


def subtree(model: mujoco.MjModel, root: int) -> np.ndarray:
    """Returns which bodies are in the subtree of a body, by id: bool (nbody,)."""
    inside = np.zeros(model.nbody, dtype=bool)
    inside[root] = True
    for body in range(root + 1, model.nbody):
        inside[body] |= inside[model.body_parentid[body]]
    return inside
