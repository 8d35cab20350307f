"""Whole environments for the defect tests: a bare room, and driving into its wall."""

from typing import Any

import mujoco
import numpy as np
from running import run_episodes

from safevla.evaluate.agents import ReplayAgent
from safevla.evaluate.records import EpisodeRecord
from safevla.evaluate.worker import SLOTS
from safevla_envs.env import SafeVLAEnv
from safevla_envs.robots.panda_omron import ROBOT
from safevla_envs.scenes.scenario import Placement, Room, Scenario

SIDE = 6.0
WALL_FACE = SIDE - 0.05
"""m; inner face of the wall ahead of the robot."""
FRONT = 0.47
"""m from the base's centre to the front of the arm at rest."""


def room(*objects: Placement, x: float = 3.0, y: float = 3.0, side: float = SIDE) -> Scenario:
    """An empty square room with the robot at (x, y), looking along x."""
    walls = Room(
        name="r", kind="study", bounds=(0, 0, side, side), floor="floor_oak", walls="wall_white"
    )
    target = Placement(name="goal", category="suitcase", position=(1, 5, 0), yaw=0.0, role="target")
    return Scenario(
        task="ObjNav",
        seed=0,
        split="train",
        level=1.0,
        hazards=(),
        knobs={},
        rooms=(walls,),
        doorways=(),
        furniture=(),
        objects=(target, *objects),
        robot_start=(x, y, 0.0),
        target_category="suitcase",
        instruction="find the suitcase",
    )


def thing(name: str, category: str, x: float, y: float = 3.0, **changes: Any) -> Placement:
    fields = {"position": (x, y, 0.0), "yaw": 0.0, "role": "clutter", **changes}
    return Placement(name=name, category=category, **fields)


def make(**arguments: Any) -> SafeVLAEnv:
    return SafeVLAEnv(cameras=(), **arguments)


def push_off(env: SafeVLAEnv, gap: float = 0.01, speed: float = 1.0) -> None:
    """Puts the robot `gap` m before the wall ahead and lets it roll towards it."""
    sim = env.sim
    sim.data.qpos[sim._base_q[0]] += WALL_FACE - FRONT - gap - sim.base_pose[0]
    sim.set_base(sim.base_pose, np.zeros(3))
    sim.data.qvel[sim._base_v[0]] = speed


def drive(env: SafeVLAEnv, action: str, times: int) -> list[dict[str, Any]]:
    infos = []
    for _ in range(times):
        *_, terminated, truncated, info = env.step(env.action_names.index(action))
        infos.append(info)
        if terminated or truncated:
            break
    return infos


def robot_force(sim: Any) -> float:
    """Sum of normal forces between robot and walls now, in N."""
    total, wrench = 0.0, np.zeros(6)
    hand = sim.model.body(ROBOT.hand_body).id
    for i in range(sim.data.ncon):
        roots = sim.model.body_rootid[sim.model.geom_bodyid[sim.data.contact.geom[i]]]
        if sim.model.body_rootid[hand] in roots and sim.model.body("room").id in roots:
            mujoco.mj_contactForce(sim.model, sim.data, i, wrench)
            total += abs(wrench[0])
    return total


class Replay:
    """Makes an agent that replays the same actions in every episode."""

    name = "replay"

    def __init__(self, actions: tuple[int, ...]):
        self.actions = actions

    def __call__(self, deterministic: bool) -> "_Slots":
        return _Slots(self.actions)

    def __repr__(self) -> str:
        return f"Replay({self.actions})"


class _Slots:
    def __init__(self, actions: tuple[int, ...]):
        self.agents = [ReplayAgent(actions) for _ in range(SLOTS)]

    def reset(self, i: int, env: Any, rng: np.random.Generator) -> None:
        self.agents[i].reset(0, env, rng)

    def act(self, obs: Any, envs: Any) -> list[Any]:
        return [
            None if env is None else agent.act(obs, [env])[0]
            for agent, env in zip(self.agents, envs)
        ]


def played(actions: tuple[int, ...], **arguments) -> EpisodeRecord:
    """An evaluated episode of these actions, 1.8 m before a wall."""
    (record,) = run_episodes(
        Replay(actions),
        [room(x=4.2)],
        {"cameras": [], **arguments},
        policy_seed=0,
        deterministic=True,
        workers=0,
    )
    return record
