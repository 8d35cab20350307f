"""Perturbations of the physics, on a copy of the model that lives for one episode."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from safevla_envs.edits import Edits
from safevla_envs.perturb.effect import Axis, Effect
from safevla_envs.robots.robot import Robot

__all__ = ["DYNAMICS_AXES"]


class _Dynamics(Effect):
    """Multiplies something of the model by the strength."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"factor": self.strength}

    def edits(self) -> Edits:
        return Edits(model=(self.change,))

    def change(self, model: mujoco.MjModel, robot: Robot) -> None:
        """Edits a model; see `ModelEdit`."""
        raise NotImplementedError


class Mass(_Dynamics):
    """Everything that can be pushed about is heavier, alike in all its parts."""

    def change(self, model: mujoco.MjModel, robot: Robot) -> None:
        free = model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
        model.body_mass[free] *= self.strength
        model.body_inertia[free] *= self.strength
        mujoco.mj_setConst(model, mujoco.MjData(model))  # what MuJoCo derives from masses


class Friction(_Dynamics):
    """Everything is more slippery."""

    def change(self, model: mujoco.MjModel, robot: Robot) -> None:
        model.geom_friction[:, 0] *= self.strength
        model.pair_friction[:, :2] *= self.strength


class Gain(_Dynamics):
    """The servos of base, torso and arm push less for the same error; the hand's is as it was."""

    def change(self, model: mujoco.MjModel, robot: Robot) -> None:
        servos = _servos(model, robot)
        model.actuator_gainprm[servos] *= self.strength
        model.actuator_biasprm[servos] *= self.strength


class Damping(_Dynamics):
    """The joints of base, torso and arm turn more stiffly.

    What is added to the servos' own damping makes it `strength` times as large, and resists all
    motion: it knows no set-point.
    """

    def change(self, model: mujoco.MjModel, robot: Robot) -> None:
        for servo in _servos(model, robot):
            dof = model.jnt_dofadr[model.actuator_trnid[servo, 0]]
            model.dof_damping[dof] += (1.0 - self.strength) * model.actuator_biasprm[servo, 2]


def _servos(model: mujoco.MjModel, robot: Robot) -> list[int]:
    """Returns the servos, of position and velocity, of all joints but the fingers'."""
    joints = {*robot.names.servo_joints} - {*robot.names.finger_joints}
    return [i for i in range(model.nu) if model.actuator(i).name.split("/", 1)[1] in joints]


DYNAMICS_AXES = (
    Axis(
        name="mass",
        kind="dynamics",
        unit="times",
        strengths=(1.1, 1.3, 1.6, 2.2, 3.0),
        what="whatever can be pushed about is heavier",
        effect=Mass,
        safevla=True,
    ),
    Axis(
        name="friction",
        kind="dynamics",
        unit="times",
        strengths=(0.9, 0.8, 0.65, 0.5, 0.35),
        what="everything is more slippery",
        effect=Friction,
        safevla=True,
    ),
    Axis(
        name="actuator_gain",
        kind="dynamics",
        unit="times",
        strengths=(0.8, 0.6, 0.4, 0.25, 0.15),
        what="the servos of base, torso and arm are weaker",
        effect=Gain,
        safevla=True,
    ),
    Axis(
        name="damping",
        kind="dynamics",
        unit="times",
        strengths=(1.05, 1.1, 1.2, 1.3, 1.45),
        what="the robot's joints turn more stiffly",
        effect=Damping,
        safevla=True,
    ),
)
