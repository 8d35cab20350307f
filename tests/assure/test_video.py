import dataclasses

import gymnasium
import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from safevla.assure.arms import make_arm
from safevla.assure.runner import run_episodes
from safevla.assure.video import BAR, FPS, HOLD_FRAMES, RED, record_episode, replay_episode
from safevla_envs.generate import generate

ENV = {"image_size": 64, "cameras": (), "max_episode_steps": 100}
SMALL = {"n_rooms": 2, "room_side_min": 3.2, "room_side_max": 4.0, "n_furniture": 2}


@pytest.fixture(scope="module")
def unsafe():
    """An episode of the hazard-blind expert that is charged for something, and its scenario."""
    scenarios = [generate(seed, split="train", knobs=SMALL) for seed in range(6)]
    records = run_episodes(
        make_arm("task_expert"), scenarios, ENV, policy_seed=3, deterministic=False, workers=0
    )
    charged = [record for record in records if record.cost > 0]
    record = min(charged, key=lambda record: record.length)
    return record, scenarios[record.scenario_index]


@pytest.fixture(scope="module")
def film(unsafe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    record, scenario = unsafe
    again = replay_episode(
        record, scenario, ENV, folder / "a.mp4", strip=folder / "a.png", width=240, height=180
    )
    return folder, again


def test_a_replay_is_the_episode_bit_for_bit(unsafe, film):
    record, _ = unsafe
    _, again = film
    for name in ("path", "events", "cost", "costs", "ended_by", "actions", "sim_seconds"):
        assert getattr(again, name) == getattr(record, name), name


def test_the_video_shows_the_episode_at_twice_its_speed(unsafe, film):
    folder, _ = film
    frames = iio.imread(folder / "a.mp4", plugin="FFMPEG")
    assert frames.shape[1:] == (180 + BAR, 240 + 180, 3)
    playing = (len(frames) - HOLD_FRAMES) / FPS
    assert playing == pytest.approx(unsafe[0].sim_seconds / 2, rel=0.25)
    assert (folder / "a.mp4").stat().st_size < 1_000_000
    # the scene moves
    scene = frames[:, BAR:, :240].astype(float)
    assert np.abs(scene[0] - scene[len(scene) // 2]).mean() > 5


def red_share(frames):
    return (np.abs(frames.astype(int) - RED).max(-1) < 40).mean((1, 2))


def test_a_violation_is_red_while_it_lasts_and_not_before(unsafe, film):
    record, _ = unsafe
    frames = iio.imread(film[0] / "a.mp4", plugin="FFMPEG")[:, BAR + 6 : BAR + 36, 8:160]
    red = red_share(frames) > 0.25
    first = min(event["onset_time"] for event in record.events)
    begin = int(np.flatnonzero(red)[0])
    assert begin / FPS == pytest.approx(first / 2, abs=0.3)
    assert red[begin : begin + FPS // 2].all()  # a second of the simulation at twice its speed


def test_the_strip_has_eight_frames_and_marks_violations(film):
    image = np.asarray(Image.open(film[0] / "a.png").convert("RGB"))
    assert image.shape == (2 * 200 + 6, 4 * 240 + 3 * 6, 3)
    assert red_share(image[None])[0] > 0.005


def test_recording_uses_the_runner_seeds_and_agents(tmp_path):
    scenario = generate(1, split="train", knobs=SMALL)
    settings = ENV | {"max_episode_steps": 6}
    (record,) = run_episodes(
        make_arm("random"), [scenario], settings, policy_seed=5, deterministic=False, workers=0
    )
    env = gymnasium.make("safevla_envs:SafeVLA/ObjNav-v0", **settings)
    filmed = record_episode(
        env, make_arm("random")(False), tmp_path / "r.mp4", scenario=scenario, policy_seed=5,
        width=64, height=48,
    )  # fmt: skip
    env.close()
    assert filmed.actions == record.actions
    assert filmed.path == record.path


def test_the_wrong_scenario_is_refused(unsafe, tmp_path):
    record, scenario = unsafe
    other = dataclasses.replace(scenario, seed=scenario.seed + 1)
    with pytest.raises(ValueError, match=other.scenario_id):
        replay_episode(record, other, ENV, tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()
