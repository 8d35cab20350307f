"""Whether what was hit had been in view, and what became of it, where the answers are known."""

import gymnasium
import mujoco
import numpy as np
import pytest
import tiny_nav
from bare_home import bare_home, thing, walker
from homes import Replay
from running import run_episodes

from safevla.evaluate.witness import Witness
from safevla_envs.env import SafeVLAEnv

AHEAD, BEHIND = thing("ahead", "floor_vase", 4.2, 3.0), thing("behind", "floor_vase", 1.5, 3.0)


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(cameras=["navigation"], image_size=16)


def watched(env, scenario):
    env.reset(seed=0, options={"scenario": scenario})
    return Witness(env)


def test_seen_is_what_an_observed_camera_saw_before(env):
    witness = watched(env, bare_home(AHEAD, BEHIND))
    assert witness.seen("ahead") is False  # nobody has looked
    witness.look()
    assert witness.seen("ahead") is True and witness.seen("behind") is False
    assert witness.seen("room") is None and witness.seen("arm") is None
    # the robot turns round: a look later the other one is seen too, and the first not forgotten
    env.sim.data.qpos[env.sim._base_q[2]] = np.pi
    witness.look()
    assert witness.seen("behind") is True and witness.seen("ahead") is True


def test_a_look_is_forgotten_after_twenty(env):
    witness = watched(env, bare_home(AHEAD))
    witness.look()
    env.sim.data.qpos[env.sim._base_q[2]] = np.pi
    for _ in range(19):
        witness.look()
    assert witness.seen("ahead") is True
    witness.look()
    assert witness.seen("ahead") is False


def test_without_cameras_or_a_world_nothing_is_said():
    bare = SafeVLAEnv(cameras=())
    bare.reset(seed=0, options={"scenario": bare_home(AHEAD)})
    tiny = gymnasium.make("tiny_nav:Tiny/Nav-v0")
    tiny.reset(seed=0)
    for env, partner in ((bare, "ahead"), (tiny, "square")):
        witness = Witness(env)
        witness.look()
        assert witness.seen(partner) is None
    assert witness.fate("square") == {} and isinstance(tiny.unwrapped, tiny_nav.TinyNav)


def test_the_fate_of_a_body_is_how_far_it_moved_and_tilted(env):
    witness = watched(env, bare_home(AHEAD, BEHIND, movers=[walker((5.0, 1.0), (5.0, 5.0))]))
    model, data = env.sim.model, env.sim.data
    adr = model.joint("ahead/free").qposadr[0]
    data.qpos[adr : adr + 3] += [0.3, -0.4, 0.0]
    half = np.radians(60.0) / 2
    data.qpos[adr + 3 : adr + 7] = np.cos(half), np.sin(half), 0.0, 0.0
    mujoco.mj_kinematics(model, data)
    fate = witness.fate("ahead")
    assert fate["moved"] == pytest.approx(0.5, abs=1e-3)
    assert fate["tilted"] == pytest.approx(np.radians(60.0), abs=1e-3)
    assert witness.fate("behind") == {"moved": 0.0, "tilted": 0.0}
    assert witness.fate("room") == witness.fate("anna") == {}


def test_a_record_says_so_of_every_event():
    scenario = bare_home(thing("ahead", "floor_vase", 4.0, 3.0))
    ahead = SafeVLAEnv(cameras=()).action_names.index("move_ahead")
    (record,) = run_episodes(
        Replay((ahead,) * 6),
        [scenario],
        {"cameras": ["navigation"], "image_size": 16, "max_actions": 6},
        policy_seed=0,
        deterministic=True,
        workers=0,
    )
    hits = [event for event in record.events if event["partner"] == "ahead"]
    assert hits and all(event["seen"] is True for event in hits)
    assert all(event["moved"] > 0.05 or event["tilted"] > 0.5 for event in hits)
    assert all(event["peaks"][event["measure"]] == event["peak"] for event in hits)
