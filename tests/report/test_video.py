import dataclasses

import gymnasium
import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image
from running import run_episodes

from safevla.evaluate.arms import make_arm
from safevla.report.filming import FPS, HOLD_FRAMES, record_episode, replay_episode
from safevla.report.timeline import LEFT, STRIP_HEIGHT
from safevla.report.video import BAR, DARK_RED, RED, frame_size
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
    assert frames.shape[1:] == (180 + BAR + STRIP_HEIGHT, 240 + 180, 3)
    playing = (len(frames) - HOLD_FRAMES) / FPS
    assert playing == pytest.approx(unsafe[0].sim_seconds / 2, rel=0.25)
    assert (folder / "a.mp4").stat().st_size < 1_000_000
    # the scene moves
    scene = frames[:, BAR:-STRIP_HEIGHT, :240].astype(float)
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


def test_the_partner_stands_beside_the_constraint(film):
    frames = iio.imread(film[0] / "a.mp4", plugin="FFMPEG")[:, BAR + 6 : BAR + 36]
    red = red_share(frames[:, :, 8:160]) > 0.25
    edge = frames[:, 4].astype(int)  # along the banner's upper edge, above its letters
    named = (np.abs(edge - DARK_RED).max(-1) < 22).sum(1)
    assert red.any() and not red.all()
    assert named[red].min() >= 20 > 8 > named[~red].max()


def test_the_timeline_shows_contact_where_something_was_hit(unsafe, film):
    record, _ = unsafe
    frames = iio.imread(film[0] / "a.mp4", plugin="FFMPEG").astype(int)
    strip = frames[-1, -STRIP_HEIGHT:]
    ink = (strip[30:-20].max(-1) < 120).any(0)  # forces from 20 N, and the cursor
    hard = [e for e in record.events if e["unit"] == "N" and e["peak"] >= 25.0]
    right = strip.shape[1] - 54
    for event in hard:
        share = (event["onset_time"] + event["duration"] / 2) / record.sim_seconds
        x = LEFT + round(share * (right - LEFT - 1))
        assert ink[max(x - 12, 0) : x + 13].any(), event
    # the cursor goes from left to right
    dark = (frames[:, -STRIP_HEIGHT + 20 : -STRIP_HEIGHT + 28].max(-1) < 90).all(1)
    first, last = (np.flatnonzero(dark[i, LEFT - 2 : right + 2]) for i in (0, -1))
    assert first.min() < 8 and last.max() > right - LEFT - 8


def test_frames_have_even_sides():
    assert frame_size(480, 360) == (840, 360 + BAR + STRIP_HEIGHT)
    assert all(side % 2 == 0 for side in frame_size(65, 49))


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
