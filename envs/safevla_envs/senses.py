"""What a policy observes: camera images, the robot's state, the instruction, further sensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from safevla_envs.instruction import INSTRUCTION_BYTES, encode_instruction
from safevla_envs.planar import in_axes
from safevla_envs.proprioception import SENSOR_SIZES, STATE_SIZE
from safevla_envs.record.scan import BEAMS, NOISE, REACH
from safevla_envs.tasks.task import Task
from safevla_envs.world import World

__all__ = ["Senses"]

STATE_BOUND = 10.0


class Senses:
    """Reads a world for a policy.

    `state`, float32 (13,), is the base's velocity in its own frame (m/s, m/s, rad/s), the torso's
    height (m), seven joint positions (rad), the gripper's opening (m), and 1 while it holds
    something. `scan`, float32 (48,), is the free way round the base in m with noise of 1 cm;
    `odometry`, float32 (3,), how far the base went since the last observation, in its frame then
    (m, m, rad). `scene`, float32, is what the task tells a policy that has no cameras.

    Attributes:
        space: of observations.

    Args:
        sim: the world.
        task: what is done in it.
        cameras: whose images are seen.
        sensors: "scan", "odometry".
        image_size: pixels a side.

    Raises:
        ValueError: if the robot has no such sensor.
    """

    def __init__(
        self,
        sim: World,
        task: Task,
        cameras: Sequence[str],
        sensors: Sequence[str],
        image_size: int,
    ):
        self.sim, self.task = sim, task
        self.cameras, self.sensors, self.image_size = (
            tuple(cameras),
            tuple(sensors),
            int(image_size),
        )
        if "scan" in sensors and sim.robot.scanners is None:
            raise ValueError(f"sensors: {sim.robot.name} has no 'scan'")
        image = spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        parts: dict[str, spaces.Space[Any]] = {f"{camera}_image": image for camera in self.cameras}
        parts["state"] = spaces.Box(-STATE_BOUND, STATE_BOUND, (STATE_SIZE,), np.float32)
        parts["instruction"] = spaces.Box(0, 255, (INSTRUCTION_BYTES,), np.uint8)
        if "scan" in sensors:
            parts["scan"] = spaces.Box(0.0, REACH, (BEAMS,), np.float32)
        if "odometry" in sensors:
            parts["odometry"] = spaces.Box(-np.inf, np.inf, (SENSOR_SIZES["odometry"],), np.float32)
        if task.told and not self.cameras:
            parts["scene"] = spaces.Box(-np.inf, np.inf, (task.told,), np.float32)
        self.space = spaces.Dict(parts)

    def begin(self, instruction: str) -> None:
        """Starts an episode: the same scenario has the same noise, whatever came before."""
        assert self.sim.scenario is not None
        self._instruction, self._pose = encode_instruction(instruction), self.sim.base_pose
        self._noise = np.random.default_rng(int(self.sim.scenario.scenario_id, 16))

    def observe(self, *, blank: bool = False) -> dict[str, np.ndarray]:
        """Returns an observation of `space`, once a step; images are black if `blank`."""
        size = self.image_size
        seen = {
            f"{camera}_image": np.zeros((size, size, 3), np.uint8)
            if blank
            else np.ascontiguousarray(self.sim.render(camera, size, size))
            for camera in self.cameras
        }
        state = np.nan_to_num(self._state(), nan=0.0, posinf=STATE_BOUND, neginf=-STATE_BOUND)
        seen["state"] = np.clip(state, -STATE_BOUND, STATE_BOUND).astype(np.float32)
        seen["instruction"] = self._instruction.copy()
        if "scan" in self.sensors:
            noisy = self.sim.scan() + self._noise.normal(0.0, NOISE, BEAMS)
            seen["scan"] = np.clip(noisy, 0.0, REACH).astype(np.float32)
        if "odometry" in self.sensors:
            seen["odometry"] = self._moved().astype(np.float32)
        if "scene" in self.space.spaces:
            seen["scene"] = np.nan_to_num(self.task.tell(self.sim)).astype(np.float32)
        return seen

    def _state(self) -> np.ndarray:
        sim = self.sim
        body = in_axes(sim.base_velocity, sim.base_pose[2])
        holding = float(sim.held().any())
        return np.array([*body, sim.torso_height, *sim.arm_positions, sim.gripper_opening, holding])

    def _moved(self) -> np.ndarray:
        before, self._pose = self._pose, self.sim.base_pose
        return np.nan_to_num(in_axes(self._pose - before, before[2]))
