"""Bodies that move by themselves: planar joints and velocity servos of limited force.

The model holds what a mover *is*; where it goes, and how fast, is the simulation's state
(`control.movers`). Contact can hold a mover back, unlike a mocap body, which no force would stop.
"""

from __future__ import annotations

import mujoco

from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.objects import add_object
from safevla_envs.scenes.person import MASS, REGIONS, add_person
from safevla_envs.scenes.scenario import Mover

__all__ = [
    "ACCELERATION",
    "PERSON",
    "add_mover",
    "add_mover_servos",
    "mover_joints",
    "mover_servos",
    "regions_of",
]

PERSON = "person"
ACCELERATION = 2.0
"""m/s²; the servo's force limit along x and y is this times the mass: 150 N for a person."""
TURN_ACCELERATION = 12.0
"""rad/s²; likewise about the vertical."""
TIME_CONSTANT = 0.15
"""s; of the velocity servos below their force limit."""
_AXES = (
    ("x", mujoco.mjtJoint.mjJNT_SLIDE, (1, 0, 0)),
    ("y", mujoco.mjtJoint.mjJNT_SLIDE, (0, 1, 0)),
    ("yaw", mujoco.mjtJoint.mjJNT_HINGE, (0, 0, 1)),
)


def mover_joints(name: str) -> tuple[str, str, str]:
    """Returns the joints x, y (m) and yaw (rad) of a mover; their positions are its pose."""
    return f"{name}/x", f"{name}/y", f"{name}/yaw"


def mover_servos(name: str) -> tuple[str, str, str]:
    """Returns the velocity servos of a mover's joints (m/s, m/s, rad/s)."""
    return f"velocity/{name}/x", f"velocity/{name}/y", f"velocity/{name}/yaw"


def regions_of(mover: Mover) -> tuple[str, ...]:
    """Returns the names of a person's regions; a mover of another kind has none."""
    return REGIONS if mover.category == PERSON else ()


def add_mover(spec: mujoco.MjSpec, mover: Mover, floor: str) -> None:
    """Adds a mover at the origin with its joints; `add_mover_servos` comes after the robot.

    Args:
        spec: The model to add to.
        mover: What to add; path, speed and start do not matter.
        floor: Body with which its contacts are excluded: it glides.

    Raises:
        KeyError: If the category is neither "person" nor in the catalogue.
        ValueError: If a thing of the category cannot move.
    """
    name, parts = mover.name, [mover.name]
    if mover.category == PERSON:
        body = add_person(spec, name, variant=mover.variant)
        parts += [f"{name}/{region}" for region in REGIONS]
    else:
        add_object(spec, mover.category, name, (0, 0, 0), 0.0, variant=mover.variant, fixed=False)
        spec.delete(spec.joint(f"{name}/free"))
        body = spec.body(name)
    body.sleep = mujoco.mjtSleepPolicy.mjSLEEP_NEVER
    for (_, kind, direction), joint in zip(_AXES, mover_joints(name)):
        body.add_joint(name=joint, type=kind, axis=direction)
    for part in parts:
        spec.add_exclude(bodyname1=part, bodyname2=floor)


def add_mover_servos(spec: mujoco.MjSpec, mover: Mover) -> None:
    """Adds the velocity servos of a mover.

    Attaching the robot to a spec hides the names of actuators that are there already (MuJoCo
    3.9.0), so this has to wait until the robot is in.
    """
    if mover.category == PERSON:
        mass, inertia = MASS, MASS * 0.15**2
    else:
        entry = CATALOG[mover.category]
        mass = entry.mass
        inertia = mass * (entry.size[0] ** 2 + entry.size[1] ** 2) / 12
    names = zip(_AXES, mover_joints(mover.name), mover_servos(mover.name))
    for (axis, _, _), joint, servo in names:
        load, limit = (inertia, TURN_ACCELERATION) if axis == "yaw" else (mass, ACCELERATION)
        actuator = spec.add_actuator(name=servo, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_velocity(load / TIME_CONSTANT)
        actuator.forcelimited = True
        actuator.forcerange = [-load * limit, load * limit]
