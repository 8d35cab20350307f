"""Lower bounds on distances: never above the true distance, and not uselessly low."""

import mujoco
import numpy as np
import pytest
from bare_home import bare_home, walker

from safevla_envs.build.robot import ROBOT
from safevla_envs.generate import generate
from safevla_envs.reach import Reach
from safevla_envs.sim import Simulation


@pytest.fixture(scope="module")
def sim():
    return Simulation()


def pose(sim: Simulation, rng: np.random.Generator) -> None:
    """Puts the robot anywhere with any posture, and turns the movers."""
    low, high = sim.arm_range.T
    data = sim.data
    data.qpos[sim._base_q] = [*rng.uniform(1.0, 6.0, 2), rng.uniform(-np.pi, np.pi)]
    data.qpos[sim._arm_q] = rng.uniform(low, high)
    data.qpos[sim._mover_q[:, 2]] = rng.uniform(-np.pi, np.pi, len(sim._mover_q))
    mujoco.mj_forward(sim.model, data)


@pytest.mark.parametrize("scenario", [0, 1, 2, "walker"])
def test_bounds_are_below_true_distances(sim, scenario):
    made = bare_home(movers=[walker((4.0, 3.0), (4.2, 3.0), speed=0.4)])
    sim.load(made if scenario == "walker" else generate(scenario, level=1.0))
    assert sim.home.movers
    reach, rng, close = Reach(sim.model, sim.data, sim.home.movers), np.random.default_rng(0), 0
    body = sim.model.body(ROBOT.root).id
    for _ in range(60):
        pose(sim, rng)
        bound, radius = reach(sim.data)
        distance = sim.separation().distance
        assert (bound <= distance + 1e-9).all()
        close += int((distance < bound + 0.5).sum())
        axis = sim.base_pose[:2]
        robot = [g for g in reach_of(sim.model, body) if sim.model.geom_contype[g]]
        assert np.hypot(*(sim.data.geom_xpos[robot, :2] - axis).T).max() <= radius
    assert close > 5, "near enough to be of use"


def test_levers_hold_in_every_posture(sim):
    """No shape beyond a joint is further from its axis than the lever says."""
    sim.load(bare_home())
    model, data = sim.model, sim.data
    levers, rng = Reach(model, data, ()).levers, np.random.default_rng(0)
    longest = np.zeros(7)
    for _ in range(200):
        pose(sim, rng)
        for j, name in enumerate(ROBOT.arm_joints):
            joint = model.joint(name)
            anchor, axis = data.xanchor[joint.id], data.xaxis[joint.id]
            beyond = [
                g
                for g in reach_of(model, int(joint.bodyid[0]))
                if model.geom_contype[g] or model.geom_conaffinity[g]
            ]
            offset = data.geom_xpos[beyond] - anchor
            away = np.linalg.norm(np.cross(offset, axis), axis=1) + model.geom_rbound[beyond]
            assert away.max() <= levers[j] + 1e-9
            longest[j] = max(longest[j], away.max())
    assert (longest > 0.4 * levers).all(), "not uselessly long"


def reach_of(model: mujoco.MjModel, body: int) -> list[int]:
    """Geoms of a subtree."""
    inside = {body}
    for b in range(body + 1, model.nbody):
        if int(model.body_parentid[b]) in inside:
            inside.add(b)
    return [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) in inside]
