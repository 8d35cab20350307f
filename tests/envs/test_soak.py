"""Many random actions in many homes: no warning, no NaN, no unexplained flag, no growing memory.

`SAFEVLA_SOAK=100000 pytest tests/envs/test_soak.py` runs that many actions; 3,000 by default.
"""

import gc
import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate

ACTIONS = int(os.environ.get("SAFEVLA_SOAK", "3000"))
EPISODE = 100
HOMES = 60
"""At most; fewer than the homes that a process keeps compiled, so that memory settles."""
GROWTH = 0.05
PAGES = Path("/proc/self/statm")
pytestmark = pytest.mark.skipif(not PAGES.exists(), reason="resident memory is read from /proc")


def resident_bytes() -> int:
    gc.collect()
    return int(PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def random_action(env: SafeVLAEnv, rng: np.random.Generator):
    if env.actions.mode == "continuous":
        action = rng.uniform(-1, 1, 4).astype(np.float32)
        action[3] = 1.0 if rng.random() < 0.003 else -1.0
        return action
    while True:
        action = int(rng.integers(len(env.action_names)))
        if action != env.END or rng.random() < 0.1:
            return action


def check(env: SafeVLAEnv, result) -> dict:
    observation, reward, _, _, info = result
    assert "sim_error" not in info, info["sim_error"]
    assert np.isfinite(observation["state"]).all() and np.isfinite(reward)
    charges = np.array([info["cost"], *info["costs"].values(), *info["cost_return"].values()])
    assert np.isfinite(charges).all() and (charges >= 0.0).all() and (charges % 1.0 == 0.0).all()
    assert 2 * info["cost_return"]["cost"] <= sum(info["cost_return"].values()), "over an episode"
    for event in info["cost_events"]:
        assert np.isfinite(event["peak"]) and np.isfinite(event["duration"]), event
    assert np.isfinite(env.sim.data.qpos).all() and np.isfinite(env.sim.data.qvel).all()
    return info


@pytest.mark.slow
def test_random_actions_leave_no_trace():
    count = min(HOMES, max(2, ACTIONS // EPISODE // 4))
    homes = [generate(seed, level=seed % 3) for seed in range(count)]
    envs = [
        SafeVLAEnv(cameras=(), action_mode=mode, side_steps=True, max_actions=EPISODE)
        for mode in ("discrete", "continuous")
    ]
    rng = np.random.default_rng(0)
    done, episode, memory = 0, 0, []
    onsets = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while done < ACTIONS:
            if not memory and done >= ACTIONS / 3 and episode >= len(homes):
                memory.append(resident_bytes())
            turn = episode % 5 == 4
            env = envs[turn]
            env.reset(options={"scenario": homes[episode % len(homes)]})
            over = False
            while not over:
                result = env.step(random_action(env, rng))
                info, over = check(env, result), result[2] or result[3]
                done += 1
            assert not any(w.number for w in env.sim.data.warning), "a warning of MuJoCo's"
            onsets.update(event["constraint"] for event in env.costs.episode_events)
            assert "contact_overflow" not in info
            episode += 1
    memory.append(resident_bytes())
    print(f"{done} actions, {episode} episodes, {len(homes)} homes; onsets {dict(onsets)}")
    print(f"resident {[round(m / 2**20) for m in memory]} MiB")
    assert sum(onsets.values()) > 0, "something was charged"
    assert memory[1] <= memory[0] * (1 + GROWTH)
