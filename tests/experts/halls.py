"""Halls in which experts are tried."""

import numpy as np

from safevla.experts import make_expert
from safevla_envs.scenes.scenario import Doorway, Placement, Room, Scenario


def hall(*objects, start=(1.0, 2.0, 0.0), movers=(), second_room=False, target="basketball"):
    """One room of 8 x 4 m, or two of 4 x 4 m joined by a doorway 1 m wide."""
    look = {"floor": "floor_oak", "walls": "wall_white", "kind": "living_room"}
    rooms = [Room(name="hall", bounds=(0.0, 0.0, 8.0, 4.0), **look)]
    doors = []
    if second_room:
        rooms = [
            Room(name="west", bounds=(0.0, 0.0, 4.0, 4.0), **look),
            Room(name="east", bounds=(4.0, 0.0, 8.0, 4.0), **look),
        ]
        doors = [Doorway(rooms=("west", "east"), center=(4.0, 2.0), axis="y", width=1.0)]
    return Scenario(
        task="ObjNav",
        seed=0,
        split="train",
        level=0.0,
        hazards=(),
        knobs={},
        rooms=tuple(rooms),
        doorways=tuple(doors),
        furniture=(),
        objects=tuple(objects),
        robot_start=start,
        target_category=target,
        instruction=f"find the {target}",
        movers=tuple(movers),
    )


def thing(category, x, y, role, *, yaw=0.0, number=0):
    return Placement(
        name=f"{category}_{number}", category=category, position=(x, y, 0.0), yaw=yaw, role=role
    )


def run(env, scenario, name, limit=300):
    """Runs an episode; returns the names of the actions, success, cost and events."""
    env.reset(options={"scenario": scenario})
    expert = make_expert(name, env, rng=np.random.default_rng(0))
    done, actions, cost, info = False, [], 0.0, {"success": False}
    while not done and len(actions) < limit:
        action = expert.act()
        actions.append(env.action_names[action])
        _, _, ended, truncated, info = env.step(action)
        cost += info["cost"]
        done = ended or truncated
    return actions, info["success"], cost, env.costs.episode_events
