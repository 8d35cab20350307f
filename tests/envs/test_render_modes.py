"""Pictures, videos and windows; the choice of constraints; goals that do not exist."""

import sys
import types
from dataclasses import replace

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
from bare_home import bare_home, thing

import safevla_envs  # noqa: F401  (registers the ids)
from safevla_envs.costs import CONSTRAINT_NAMES
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate

ID = "SafeVLA/ObjNav-v0"


def test_rgb_array_is_what_gymnasium_asks_for():
    env = gymnasium.make(ID, cameras=(), render_mode="rgb_array", scenario=bare_home())
    env.reset()
    frame = env.render()
    assert isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2] == 3
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 100
    assert set(env.metadata["render_modes"]) == {"human", "rgb_array"}
    assert env.metadata["render_fps"] > 0


def test_record_video_writes_an_episode(tmp_path):
    made = gymnasium.make(
        ID, cameras=(), render_mode="rgb_array", scenario=bare_home(), max_actions=3
    )
    env = gymnasium.wrappers.RecordVideo(made, str(tmp_path), episode_trigger=lambda episode: True)
    env.reset()
    for _ in range(3):
        *_, truncated, _ = env.step(0)
    assert truncated
    env.close()
    (video,) = tmp_path.glob("*.mp4")
    frames = imageio.mimread(video, memtest=False)
    assert len(frames) == 4 and frames[0].shape == (360, 480, 3)
    moved = np.abs(frames[-1].astype(int) - frames[0]).mean()
    assert moved > 0.5


def test_a_window_without_a_display_is_refused_with_advice(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(RuntimeError, match=r'no display.*render_mode="rgb_array"'):
        SafeVLAEnv(cameras=(), render_mode="human")


class FakeViewer:
    """Counts what the passive viewer is asked for."""

    opened: list  # of (model, viewer)

    def __init__(self):
        self.synced, self.running = 0, True
        self.cam, self.opt = types.SimpleNamespace(), types.SimpleNamespace(geomgroup=np.zeros(6))

    def is_running(self):
        return self.running

    def sync(self):
        self.synced += 1

    def close(self):
        self.running = False


def test_a_window_follows_every_tick_and_changes_nothing(monkeypatch):
    viewer = pytest.importorskip("mujoco.viewer")
    opened = []

    def launch(model, data, **_):
        opened.append((model, FakeViewer()))
        return opened[-1][1]

    monkeypatch.setattr(viewer, "launch_passive", launch)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("safevla_envs.render.window.time.sleep", lambda seconds: None)
    env, plain = SafeVLAEnv(cameras=(), render_mode="human"), SafeVLAEnv(cameras=())
    for e in (env, plain):
        e.reset(options={"scenario": bare_home()})
        e.step(0)
    assert env.sim.state_hash() == plain.sim.state_hash()
    assert env.render() is None
    ((_, first),) = opened
    assert first.synced == 1 + 8  # once when opened, then per tick
    env.reset(options={"scenario": replace(bare_home(), robot_start=(2.0, 3.0, 0.0))})
    assert len(opened) == 1, "the same model needs no new window"
    env.reset(options={"scenario": bare_home(thing("box", "suitcase", 1.0, 1.0))})
    assert len(opened) == 2 and not first.running and opened[1][0] is env.sim.model
    opened[1][1].running = False  # the user closes it: the episode goes on
    env.step(0)
    env.close()


def test_constraints_are_chosen_by_name_in_canonical_order():
    env = SafeVLAEnv(cameras=(), constraints=("impact", "corner"), scenario=bare_home())
    assert [c.name for c in env.constraints] == ["corner", "impact"]
    _, info = env.reset()
    assert list(info["costs"]) == ["corner", "impact"]
    assert [c.name for c in SafeVLAEnv(cameras=()).constraints] == list(CONSTRAINT_NAMES)
    with pytest.raises(ValueError, match=r"constraints: 'cornre'"):
        SafeVLAEnv(cameras=(), constraints=("cornre",))
    with pytest.raises(ValueError, match="at least one"):
        SafeVLAEnv(cameras=(), constraints=())


def test_a_goal_that_does_not_exist_can_be_looked_for_in_vain():
    home = generate(0, hazards=())
    rest = tuple(p for p in home.objects if p.category != home.target_category)
    absent = replace(home, objects=rest, impossible="absent")
    env = SafeVLAEnv(cameras=(), reward_shaping=True)
    observation, _ = env.reset(options={"scenario": absent})
    assert env.observation_space.contains(observation)
    assert np.isinf(env.path_length()) and not env.target_visible()
    assert np.isfinite(env.waypoint()).all()
    vector = env.privileged_state()
    env.reset(options={"scenario": home})
    assert vector.shape == env.privileged_state().shape and np.isfinite(vector).all()
    env.reset(options={"scenario": absent})
    assert env.step(0)[1] == 0.0
    _, reward, terminated, _, info = env.step(env.END)
    assert terminated and reward == 0.0 and not info["success"]
