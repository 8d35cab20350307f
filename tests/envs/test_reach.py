"""Bounds on distances and closing speeds: never too favourable, and not useless."""

import mujoco
import numpy as np
import pytest
from bare_home import bare_home, walker

from safevla_envs.generate import generate
from safevla_envs.record.reach import Reach
from safevla_envs.world import Simulation


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


def stir(sim: Simulation, rng: np.random.Generator) -> None:
    """Gives the robot and the movers any velocity."""
    data = sim.data
    data.qvel[:] = 0.0
    data.qvel[sim._base_v] = rng.normal(0.0, 0.6, 3)
    data.qvel[sim._arm_v] = rng.normal(0.0, 0.8, 7)
    data.qvel[sim._mover_v] = rng.normal(0.0, 0.8, sim._mover_v.shape)
    mujoco.mj_forward(sim.model, data)


@pytest.mark.parametrize("scenario", [0, 1, 2, "walker"])
def test_bounds_are_never_too_favourable(sim, scenario):
    made = bare_home(movers=[walker((4.0, 3.0), (4.2, 3.0), speed=0.4)])
    sim.load(made if scenario == "walker" else generate(scenario, level=1.0))
    assert sim.home.movers
    reach, rng = Reach(sim.model, sim.data, sim.home.movers), np.random.default_rng(0)
    close = 0
    for _ in range(60):
        pose(sim, rng)
        stir(sim, rng)
        gap, robot, mover = reach.bounds()
        true = sim.separation()
        assert (gap.min(1) <= true.distance + 1e-9).all()
        # whichever shape is the nearest one, some shape bounds distance and speeds together
        at = (gap <= true.distance[:, None] + 1e-9) & np.isfinite(true.distance)[:, None]
        at &= robot >= true.closing_robot[:, None] - 1e-9
        at &= mover >= true.closing_mover[:, None] - 1e-9
        assert (at.any(1) | np.isinf(true.distance)).all()
        assert (robot.max(1) >= true.closing_robot - 1e-9).all()
        assert (mover.max(1) >= true.closing_mover - 1e-9).all()
        close += int((true.distance < gap.min(1) + 0.5).sum())
    assert close > 5, "near enough to be of use"


@pytest.mark.parametrize("robot_speed", [0.4, 0.0, -0.4])
@pytest.mark.parametrize("walker_speed", [0.7, 0.0, -0.7])
def test_bounds_tell_coming_from_going(sim, robot_speed, walker_speed):
    """The walker stands 2 m ahead; positive speeds are towards each other."""
    sim.load(bare_home(movers=[walker((4.0, 3.0), (4.2, 3.0), speed=0.4)]))
    sim.data.qpos[sim._base_q], sim.data.qpos[sim._mover_q[0, :2]] = (2.0, 3.0, 0.0), (4.0, 3.0)
    sim.data.qvel[sim._base_v[0]], sim.data.qvel[sim._mover_v[0, 0]] = robot_speed, -walker_speed
    mujoco.mj_forward(sim.model, sim.data)
    _, robot, mover = Reach(sim.model, sim.data, sim.home.movers).bounds()
    assert robot.max() == pytest.approx(max(robot_speed, 0.0), rel=0.02, abs=1e-9)
    assert mover.max() == pytest.approx(max(walker_speed, 0.0), rel=0.02, abs=1e-9)


def test_each_shape_is_bounded_by_itself(sim):
    """Distances and speeds of every pair of shapes, in random states, against MuJoCo's own."""
    sim.load(bare_home(movers=[walker((4.0, 3.0), (4.2, 3.0), speed=0.4)]))
    model, data, rng = sim.model, sim.data, np.random.default_rng(1)
    reach, person = Reach(model, data, sim.home.movers), sim.model.body(sim.home.movers[0]).id
    theirs = [g for g in range(model.ngeom) if model.body_rootid[model.geom_bodyid[g]] == person]
    shapes, ends, twist = reach.arguments[5], np.zeros(6), np.zeros(6)

    def velocity(body: int, point: np.ndarray) -> np.ndarray:
        kind = mujoco.mjtObj.mjOBJ_XBODY
        mujoco.mj_objectVelocity(model, data, kind, body, twist, 0)
        return twist[3:] + np.cross(twist[:3], point - data.xpos[body])

    for _ in range(20):
        pose(sim, rng)
        stir(sim, rng)
        gap, robot, mover = reach.bounds()
        for g, (geom, body, _) in enumerate(shapes):
            mine = (
                [geom]
                if geom >= 0
                else [k for k in colliding(model) if model.geom_bodyid[k] == body]
            )
            for a in mine:
                for b in theirs:
                    distance = mujoco.mj_geomDistance(model, data, a, b, 20.0, ends)
                    assert gap[0, g] <= distance + 1e-9
                    if distance > 1e-3:
                        way = (ends[3:] - ends[:3]) / distance
                        assert velocity(body, ends[:3]) @ way <= robot[0, g] + 1e-9
                        other = model.geom_bodyid[b]
                        assert -velocity(other, ends[3:]) @ way <= mover[0, g] + 1e-9


def colliding(model: mujoco.MjModel) -> list[int]:
    return [g for g in range(model.ngeom) if model.geom_contype[g] or model.geom_conaffinity[g]]
