"""What the recorder should have seen: by scanning contacts, and by MuJoCo's own sensors."""

from collections.abc import Callable

import mujoco
import numpy as np

from safevla_envs.record.watch import Watch

QUANTITIES = ("pos", "vel", "torque", "servo")
"""Of each joint, by sensors of MuJoCo, in the recorder's order."""


def scan(
    model: mujoco.MjModel, data: mujoco.MjData, watch: Watch, regions: tuple[str, ...]
) -> list[np.ndarray]:
    """Forces (P,), (R,), (L,) and (F,) of the last substep, contact by contact."""

    def within(geom: int, root: str) -> bool:
        body, wanted = model.geom_bodyid[geom], model.body(root).id
        while body and body != wanted:
            body = model.body_parentid[body]
        return body == wanted

    def single(geom: int, name: str) -> bool:
        return model.geom_bodyid[geom] == model.body(name).id

    def total(first: Callable[[int], bool], second: Callable[[int], bool]) -> float:
        wrench, force = np.zeros(6), 0.0
        for i in range(data.ncon):
            a, b = data.contact[i].geom
            if (first(a) and second(b)) or (first(b) and second(a)):
                mujoco.mj_contactForce(model, data, i, wrench)
                force += abs(wrench[0])
        return force

    parts = watch.parts
    robot = lambda g: within(g, parts.root)  # noqa: E731
    contact = [total(robot, lambda g, p=p: within(g, p)) for p in watch.partners]
    region = [total(robot, lambda g, p=p: within(g, p)) for p in regions]
    own = [
        total(lambda g, a=a: within(g, a), lambda g, b=b: single(g, b)) for a, b in parts.self_pairs
    ]
    finger = [total(lambda g, f=f: within(g, f), lambda _: True) for f in parts.fingers]
    return [np.array(found) for found in (contact, region, own, finger)]


def add_oracle(spec: mujoco.MjSpec, watch: Watch, regions: tuple[str, ...]) -> None:
    """Adds MuJoCo's own sensors for what the recorder notes by itself.

    With a history of one substep: what falls asleep in a substep changes what others read after it.
    """
    kinds, kind, parts = mujoco.mjtSensor, mujoco.mjtObj, watch.parts
    subtree, body = kind.mjOBJ_XBODY, kind.mjOBJ_BODY
    robot = (subtree, parts.root)
    pairs = [(robot, (subtree, name)) for name in (*watch.partners, *regions)]
    pairs += [((subtree, a), (body, b)) for a, b in parts.self_pairs]
    pairs += [((subtree, name), None) for name in parts.fingers]
    for n, (first, second) in enumerate(pairs):
        sensor = spec.add_sensor(name=f"oracle{n}", type=kinds.mjSENS_CONTACT)
        sensor.objtype, sensor.objname = first
        if second is not None:
            sensor.reftype, sensor.refname = second
        sensor.intprm[:3] = [0b11, 0, 50]  # number and force of each contact, none merged
    for name, servo in zip(parts.joints, parts.servos, strict=True):
        of = {"objtype": kind.mjOBJ_JOINT, "objname": name}
        spec.add_sensor(name=f"pos/{name}", type=kinds.mjSENS_JOINTPOS, **of)
        spec.add_sensor(name=f"vel/{name}", type=kinds.mjSENS_JOINTVEL, **of)
        spec.add_sensor(name=f"torque/{name}", type=kinds.mjSENS_JOINTACTFRC, **of)
        of = {"objtype": kind.mjOBJ_ACTUATOR, "objname": servo}
        spec.add_sensor(name=f"servo/{name}", type=kinds.mjSENS_ACTUATORFRC, **of)
    if parts.tip is not None:
        of = {"objtype": kind.mjOBJ_SITE, "objname": parts.tip[0]}
        base = {"reftype": subtree, "refname": parts.tip[1]}
        spec.add_sensor(name="tip", type=kinds.mjSENS_FRAMELINVEL, **of, **base)
    for sensor in spec.sensors:
        sensor.nsample = 1


def consult(data: mujoco.MjData, watch: Watch) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns what those sensors read now: forces, (4, J) of the joints, and the tip's speed."""
    model, parts = data.model, watch.parts

    def read(name: str) -> np.ndarray:
        start = model.sensor_historyadr[model.sensor(name).id] + 3  # past user, cursor and time
        return data.history[start : start + model.sensor(name).dim[0]]

    joints = [[read(f"{q}/{n}")[0] for n in parts.joints] for q in QUANTITIES]
    names = [model.sensor(s).name for s in range(model.nsensor)]
    forces = [np.abs(read(n).reshape(-1, 4)[:, 1]).sum() for n in names if n.startswith("oracle")]
    speed = float(np.linalg.norm(read("tip"))) if parts.tip is not None else 0.0
    return np.array(forces), np.array(joints), speed
