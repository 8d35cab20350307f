"""Small scenes with a robot, and how to record them."""

from typing import Any

import mujoco
import numpy as np

from safevla_envs.record.recorder import Recorder
from safevla_envs.record.watch import RobotParts, Watch, add_touch_counter

STEPS = 25


def build(
    xml: str,
    partners: tuple[str, ...] = (),
    *,
    regions: tuple[str, ...] = (),
    keepouts: dict[str, str] | None = None,
    steps: int = STEPS,
    counter: bool = True,
    **parts: Any,
) -> tuple[mujoco.MjModel, mujoco.MjData, Recorder]:
    """Returns a scene and its recorder; `parts` are those of the robot, the body `robot`."""
    spec = mujoco.MjSpec.from_string(xml)
    if counter:
        add_touch_counter(spec, "robot")
    model = spec.compile()
    data = mujoco.MjData(model)
    robot = RobotParts(**{"root": "robot", **parts})
    watch = Watch.of(model, robot, partners, regions=regions, keepouts=keepouts)
    return model, data, Recorder(model, data, watch, steps)


def recorded(recorder: Recorder) -> dict[str, np.ndarray]:
    """Returns copies of all that a recorder noted in the last tick, by name."""
    forces = ("contact_force", "region_force", "self_force", "finger_force")
    found = {name: getattr(recorder, name).copy() for name in forces}
    found |= {name: value.copy() for name, value in recorder.rows._asdict().items()}
    return {**found, "graph": recorder.graph(), "keepout": recorder.keepout_distance()}


PLATE = """
<mujoco><option timestep="0.002"/>
<worldbody>
  <body name="floor"><geom type="plane" size="5 5 .1" pos="0 0 -1"/></body>
  <body name="robot"><body name="plate"><geom type="box" size=".2 .2 .02"/></body></body>
  <body name="box" pos="0 0 .0699">
    <freejoint/><geom type="box" size=".04 .04 .005" pos="0 0 .08" mass="1"/>
    <body name="bottom"><geom type="box" size=".05 .05 .05" mass="2"/></body>
  </body>
  <body name="other" pos="1 0 -.95"><freejoint/><geom type="box" size=".05 .05 .05"/></body>
</worldbody></mujoco>"""


KEEPOUT = """
<mujoco><option timestep="0.002" gravity="0 0 0"/>
<worldbody>
  <body name="robot"><joint name="x" type="slide" axis="1 0 0"/>
    <geom name="tip" type="sphere" size=".05" mass="1"/>
    <geom type="sphere" size=".02" pos=".5 0 .5" mass="1"/>
    <geom name="skin" type="sphere" size=".3" contype="0" conaffinity="0" mass="0"/></body>
  <body name="stove" pos="1 0 0"><geom type="box" size=".1 .1 .1"/>
    <geom name="stove/keepout" type="box" size=".2 .2 .2" contype="0" conaffinity="0"/></body>
  <body name="chair" pos="5 5 0"><geom type="box" size=".1 .1 .1"/></body>
</worldbody></mujoco>"""
KEEPOUT_PARTS = {
    "partners": ("chair", "stove"),
    "keepouts": {"stove": "stove/keepout"},
    "keepout": ("robot",),
}


ARM = """
<mujoco><compiler angle="radian"/><option timestep="0.002"/>
<worldbody>
  <body name="floor"><geom type="plane" size="5 5 .1"/></body>
  <body name="room"><geom type="box" size=".05 .03 .35" pos=".85 0 .35"/>
    <body name="shelves"><geom type="box" size=".1 .1 .02" pos=".45 .45 .45"/>
      <geom type="box" size=".1 .1 .02" pos=".45 -.45 .45"/></body></body>
  <body name="robot" pos="0 0 .3"><joint name="base" type="slide" axis="1 0 0"/>
    <geom name="pole" type="capsule" size=".06" fromto="0 0 -.2 0 0 .1"/>
    <body name="upper" pos="0 0 .3"><joint name="j1" axis="0 0 1"/>
      <joint name="j2" axis="0 1 0" range="-2 2"/>
      <geom type="capsule" size=".04" fromto=".11 0 0 .4 0 0" mass="1"/>
      <body name="fore" pos=".45 0 0"><joint name="j3" axis="0 1 0" range="-3 3"/>
        <geom type="capsule" size=".03" fromto=".02 0 0 .3 0 0" mass=".5"/>
        <body name="hand" pos=".33 0 0"><joint name="j4" axis="1 0 0" stiffness="20" damping="1"/>
          <geom type="box" size=".03 .06 .03" mass=".2"/><site name="tip" pos=".02 .05 0"/></body>
      </body></body></body>
  <body name="can" pos=".45 .45 .53"><freejoint/>
    <geom type="cylinder" size=".05 .06" mass=".3"/></body>
  <body name="cup" pos=".45 -.45 .53"><freejoint/>
    <geom type="box" size=".05 .05 .06" mass=".3"/></body>
</worldbody>
<actuator><position name="s1" joint="j1" kp="300" kv="15"/><position joint="j2" kp="300" kv="15"/>
  <position name="s3" joint="j3" kp="200" kv="6"/>
  <position joint="base" kp="100000" kv="2000"/></actuator>
</mujoco>"""
ARM_PARTS = {
    "partners": ("floor", "room", "can", "cup"),
    "self_pairs": (("fore", "robot"), ("hand", "upper")),
    "joints": ("j3", "j1"),
    "servos": ("s3", "s1"),
    "tip": ("tip", "upper"),
    "fingers": ("hand",),
    "regions": ("can", "room"),
}
