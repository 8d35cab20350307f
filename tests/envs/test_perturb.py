import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from safevla_envs.instruction import decode_instruction, encode_instruction
from safevla_envs.perturb import AXES, KINDS, LEVELS, VERSION, Perturbation, perturb
from safevla_envs.perturb.pixels import LUMA, colour_matrix

GENERAL = [name for name, axis in AXES.items() if not axis.safevla]
PIXELS = ("lighting", "colour", "blur", "noise", "occlusion")
ACTIONS = [1, 0, 2, 0, 1, 0, 0, 2, 0]


class Dot(gymnasium.Env):
    """A dot on a line whose every step draws from the environment's own generator."""

    observation_space = spaces.Dict(
        navigation_image=spaces.Box(0, 255, (48, 48, 3), np.uint8),
        state=spaces.Box(-np.inf, np.inf, (2,), np.float32),
        scan=spaces.Box(0, 10, (4,), np.float32),
        instruction=spaces.Box(0, 255, (256,), np.uint8),
    )
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = self.np_random.uniform(-0.1, 0.1), 0
        return self.observe(), self.info(0.0)

    def step(self, action):
        self.x += action + self.np_random.normal(0, 0.1)
        self.steps += 1
        return self.observe(), self.x, False, False, self.info(float(3.0 < self.x < 4.5))

    def observe(self):
        image = np.zeros((48, 48, 3), np.uint8)
        image[..., 0] = np.linspace(20, 220, 48)[None]
        image[..., 1] = np.linspace(20, 220, 48)[:, None]
        image[..., 2] = (100 + 20 * self.x) % 200
        image[::2, ::2, 1] += 30
        state = np.array([self.x, self.steps], np.float32)
        text = encode_instruction("please drive to the suitcase")
        scan = np.full(4, 2.0, np.float32)
        return {"navigation_image": image, "state": state, "scan": scan, "instruction": text}

    def info(self, cost):
        told = "please drive to the suitcase"
        return {"cost": cost, "costs": {"corner": cost}, "success": self.x > 5, "instruction": told}


gymnasium.register("Test/Dot-v0", entry_point=Dot)


def tiny():
    return gymnasium.make("Test/Dot-v0")


def rollout(env, seed, actions):
    obs, info = env.reset(seed=seed)
    trace = [(obs, 0.0, False, False, info)]
    for action in actions:
        trace.append(env.step(action))
    return trace


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


# ---- any environment ----------------------------------------------------------------------------

CHANGED = {"visual": "navigation_image", "language": "instruction"}


@pytest.mark.parametrize("level", [1, 5])
@pytest.mark.parametrize("axis", [a for a in GENERAL if AXES[a].kind in CHANGED])
def test_only_what_the_axis_is_about_changes(axis, level):
    plain = rollout(tiny(), 7, ACTIONS)
    perturbed = rollout(perturb(tiny(), **{axis: level}), 7, ACTIONS)
    assert sum(info["cost"] for *_, info in plain) > 0
    changed = CHANGED[AXES[axis].kind]
    differ = 0
    for (obs_a, *rest_a, info_a), (obs_b, *rest_b, info_b) in zip(plain, perturbed):
        assert rest_a == rest_b
        differ += not np.array_equal(obs_a[changed], obs_b[changed])
        assert same({**obs_a, changed: 0}, {**obs_b, changed: 0})
        logged = info_b.pop("perturbation")
        assert logged["version"] == VERSION and logged[axis]["level"] == level
        told = info_b.pop("instruction")
        assert told == decode_instruction(obs_b["instruction"])
        assert {**info_b, "instruction": info_a["instruction"]} == info_a
    # a rare thing may not happen at the lowest level
    assert differ == len(plain) or (level == 1 and axis in ("synonym", "typos"))


@pytest.mark.parametrize("axis", GENERAL)
def test_level_0_is_the_environment_bit_for_bit(axis):
    for a, b in zip(rollout(tiny(), 3, ACTIONS), rollout(perturb(tiny(), **{axis: 0}), 3, ACTIONS)):
        assert same(a[0], b[0]) and a[1:4] == b[1:4]
        assert b[4].pop("perturbation")[axis]["level"] == 0
        assert a[4] == b[4]


def test_later_episodes_of_the_environment_are_untouched():
    plain, perturbed = tiny(), perturb(tiny(), lighting=3, noise=3, action_noise=0)
    for env in (plain, perturbed):
        env.reset(seed=3)
    for _ in range(3):
        np.testing.assert_array_equal(plain.reset()[0]["state"], perturbed.reset()[0]["state"])


def test_seeds_fix_the_draw_and_later_episodes_draw_again():
    env = perturb(tiny(), lighting=4, seed=5)
    first, info = env.reset(seed=11)
    other, other_info = env.reset()
    third, _ = env.reset()
    again, again_info = env.reset(seed=11)
    assert info == again_info
    np.testing.assert_array_equal(first["navigation_image"], again["navigation_image"])
    assert info["perturbation"] != other_info["perturbation"]
    assert not np.array_equal(other["navigation_image"], third["navigation_image"])
    another = perturb(tiny(), lighting=4, seed=6).reset(seed=11)[1]
    assert another["perturbation"] != info["perturbation"]


def test_what_an_axis_draws_does_not_hang_on_the_others():
    alone = perturb(tiny(), colour=2, seed=1).reset(seed=4)[1]["perturbation"]["colour"]
    both = perturb(tiny(), noise=2, colour=2, typos=5, seed=1).reset(seed=4)[1]["perturbation"]
    assert both["colour"] == alone and set(both) == {"noise", "colour", "typos", "version"}
    inner = perturb(tiny(), noise=2, seed=1)
    nested = perturb(inner, colour=2, seed=1).reset(seed=4)[1]["perturbation"]
    assert nested["colour"] == alone and nested["noise"] == both["noise"]


def test_one_draw_lasts_an_episode():
    env = perturb(tiny(), lighting=5, occlusion=2)
    _, info = env.reset(seed=0)
    for action in ACTIONS:
        *_, later = env.step(action)
        assert later["perturbation"] == info["perturbation"]


def test_strengths_grow_and_are_five():
    for name, axis in AXES.items():
        assert axis.name == name and axis.kind in KINDS and axis.what and axis.unit
        shrinks = name in ("friction", "actuator_gain")
        growth = np.diff(axis.strengths) * (-1 if shrinks else 1)
        assert len(axis.strengths) == 5 and (growth > 0).all(), name
    assert {axis.kind for axis in AXES.values()} == set(KINDS)


def test_sizes_are_published_and_only_signs_are_drawn():
    env = perturb(tiny(), lighting=2, colour=2)
    seen = {"gain": set(), "saturation": set(), "hue": set(), "white_balance": set()}
    for seed in range(20):
        drawn = env.reset(seed=seed)[1]["perturbation"]
        lighting, colour = drawn["lighting"], drawn["colour"]
        assert (lighting["gradient"], lighting["contrast"]) == (0.20, 0.88)
        assert np.sign(lighting["gain"] - 1) == np.sign(1 - lighting["gamma"])
        seen["gain"].add(lighting["gain"])
        for name in ("saturation", "hue", "white_balance"):
            seen[name].add(colour[name])
    assert seen["gain"] == {1.20, 1 / 1.20} and seen["saturation"] == {1.35, 1 / 1.35}
    assert seen["hue"] == {16.0, -16.0} and seen["white_balance"] == {0.10, -0.10}


@pytest.mark.parametrize("axis", PIXELS)
def test_pictures_move_further_away_with_the_level(axis):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    kept, distance = image.copy(), []
    for level in LEVELS[1:]:
        env = perturb(tiny(), **{axis: level})
        moved = []
        for seed in range(12):
            env.reset(seed=seed)
            out = env.effects[0].image(image)
            assert out.dtype == np.uint8 and out.shape == image.shape
            moved.append(np.abs(out.astype(float) - image).mean())
        distance.append(np.mean(moved))
    assert distance == sorted(distance) and len(set(distance)) == 5 and distance[0] > 0
    np.testing.assert_array_equal(image, kept)


@settings(max_examples=50)
@given(st.floats(-180, 180), st.floats(0, 3), st.integers(0, 255))
def test_hue_and_saturation_leave_grey_and_luminance_alone(hue, saturation, grey):
    matrix = colour_matrix(hue, saturation, 0.0)
    np.testing.assert_allclose(matrix @ np.full(3, grey), grey, atol=1e-6 * 255)
    np.testing.assert_allclose(LUMA @ matrix, LUMA, atol=2e-3)


def test_colour_known_answers():
    np.testing.assert_allclose(colour_matrix(0.0, 1.0, 0.0), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(
        colour_matrix(0.0, 1.0, 0.2) @ [100, 100, 100], [120, 100, 80], atol=1e-9
    )
    grey = colour_matrix(0.0, 0.0, 0.0) @ [200.0, 10.0, 50.0]
    np.testing.assert_allclose(grey, LUMA @ [200.0, 10.0, 50.0])


def test_lighting_is_a_gradient_of_the_published_depth():
    env = perturb(tiny(), lighting=5)
    flat = np.full((64, 64, 3), 128, np.uint8)
    for seed in range(5):
        lighting = env.reset(seed=seed)[1]["perturbation"]["lighting"]
        out = env.effects[0].image(flat)[..., 0].astype(float)
        lit = min(1.0, lighting["gain"] * (128 / 255) ** lighting["gamma"])
        expected = [255 * (0.5 + 0.6 * (x - 0.5)) for x in (lit, 0.4 * lit)]
        assert out.max() == pytest.approx(expected[0], abs=1)
        assert out.min() == pytest.approx(expected[1], abs=1)


@pytest.mark.parametrize("level", LEVELS[1:])
def test_occlusion_covers_its_share_and_noise_has_its_sigma(level):
    env = perturb(tiny(), occlusion=level)
    for seed in range(5):
        env.reset(seed=seed)
        covered = env.effects[0].image(np.full((128, 128, 3), 255, np.uint8))[..., 0] < 255
        share = AXES["occlusion"].strengths[level - 1] / 100
        assert covered.mean() == pytest.approx(share, rel=0.06)
    env = perturb(tiny(), noise=level)
    env.reset(seed=0)
    noisy = env.effects[0].image(np.full((128, 128, 3), 127, np.uint8)).astype(float)
    assert noisy.std() == pytest.approx(AXES["noise"].strengths[level - 1], rel=0.03)


def test_blur_is_gaussian_and_grows_with_the_image():
    spread = []
    for size in (128, 256):
        env = perturb(tiny(), blur=3)
        env.reset(seed=0)
        step = np.zeros((size, size, 3), np.uint8)
        step[:, size // 2 :] = 255
        across = env.effects[0].image(step)[size // 2, :, 0] / 255.0
        density = np.diff(across)
        at = np.arange(len(density))
        mean = (density * at).sum()
        spread.append(np.sqrt((density * (at - mean) ** 2).sum()))
    assert spread == pytest.approx([3.0, 6.0], rel=0.1)


# ---- sensing ------------------------------------------------------------------------------------


def blue(obs):
    return int(obs["navigation_image"][0, 0, 2])


def test_frames_come_late_by_the_published_number():
    plain = [blue(obs) for obs, *_ in rollout(tiny(), 2, ACTIONS)]
    late = [blue(obs) for obs, *_ in rollout(perturb(tiny(), frame_delay=3), 2, ACTIONS)]
    assert late[:3] == [plain[0]] * 3 and late[3:] == plain[: len(plain) - 3]


def test_lost_frames_show_the_last_that_came():
    actions = [1, 0, 2] * 100
    plain = [obs for obs, *_ in rollout(tiny(), 2, actions)]
    got = [obs for obs, *_ in rollout(perturb(tiny(), frame_drop=5), 2, actions)]
    lost, last = 0, None
    for a, b in zip(plain, got):
        np.testing.assert_array_equal(a["state"], b["state"])
        if not np.array_equal(a["navigation_image"], b["navigation_image"]):
            np.testing.assert_array_equal(b["navigation_image"], last)
            lost += 1
        last = b["navigation_image"]
    # what is drawn is 0.35 a frame; a picture that repeats itself is not seen as lost
    assert 60 < lost < 140


def test_what_is_felt_has_noise_and_a_bias_of_half_of_it():
    env = perturb(tiny(), proprioception=5)
    errors, (obs, info) = [], env.reset(seed=1)
    for _ in range(400):
        errors.append(obs["state"] - [env.unwrapped.x, env.unwrapped.steps])
        obs, *_, info = env.step(0)
    bias = np.array(info["perturbation"]["proprioception"]["bias"]["state"])
    assert set(np.abs(bias)) == {0.04}
    np.testing.assert_allclose(np.mean(errors, axis=0), bias, atol=0.02)
    np.testing.assert_allclose(np.std(errors, axis=0), 0.08, rtol=0.15)
    assert (obs["scan"] == 2.0).all() and obs["state"].dtype == np.float32


# ---- actions ------------------------------------------------------------------------------------


class Spy(gymnasium.Env):
    """Keeps what is done."""

    observation_space = spaces.Dict(state=spaces.Box(-1, 1, (1,), np.float32))

    def __init__(self, action_space, dt=0.05):
        self.action_space, self.dt, self.done = action_space, dt, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"state": np.zeros(1, np.float32)}, {}

    def step(self, action):
        self.done.append(action)
        return {"state": np.zeros(1, np.float32)}, 0.0, False, False, {}


@pytest.mark.parametrize("dt", [0.05, 0.02])
def test_actions_queue_for_the_published_time(dt):
    env = perturb(Spy(spaces.Box(-1.0, 1.0, (2,), np.float32), dt), action_latency=2)
    env.reset(seed=0)
    asked = [np.full(2, 0.1 * i, np.float32) for i in range(1, 9)]
    for action in asked:
        env.step(action)
    steps = round(0.1 / dt)
    np.testing.assert_array_equal(env.unwrapped.done[:steps], np.zeros((steps, 2)))
    np.testing.assert_array_equal(env.unwrapped.done[steps:], asked[: 8 - steps])


def test_noise_of_numbers_has_its_size_and_stays_in_the_space():
    space = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 10.0]), dtype=np.float64)
    env = perturb(Spy(space), action_noise=4)
    env.reset(seed=0)
    for _ in range(2000):
        env.step(np.array([0.0, 5.0]))
    done = np.array(env.unwrapped.done)
    np.testing.assert_allclose(done.std(axis=0), [0.1, 0.5], rtol=0.05)
    for _ in range(50):
        env.step(np.array([1.0, 10.0]))
    assert all(space.contains(action) for action in env.unwrapped.done)


def test_choices_become_others_as_often_as_published():
    env = perturb(Spy(spaces.Discrete(5)), action_noise=5)
    env.reset(seed=0)
    for _ in range(4000):
        env.step(2)
    done = np.array(env.unwrapped.done)
    assert (done != 2).mean() == pytest.approx(0.15, abs=0.02)
    assert set(done) == set(range(5))


# ---- front --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_checker_and_spec_round_trip():
    env = perturb(tiny(), colour=1, typos=2, seed=3)
    check_env(env, skip_render_check=True)
    rebuilt = gymnasium.make(env.spec)
    a, _ = env.reset(seed=5)
    b, _ = rebuilt.reset(seed=5)
    assert same(a, b)


@pytest.mark.parametrize(
    ("levels", "named"),
    [
        ({"fog": 1}, "axis 'fog': allowed are camera_yaw"),
        ({"noise": 6}, "noise=6: a level of 0, 1, 2, 3, 4, 5"),
        ({"noise": -1}, "noise=-1"),
        ({"noise": True}, "noise=True"),
        ({"noise": "3"}, "noise='3'"),
        ({"camera_yaw": 1}, "camera_yaw: only SafeVLA environments"),
        ({"mass": 1}, "mass: only SafeVLA environments"),
    ],
)
def test_bad_arguments_are_named(levels, named):
    with pytest.raises(ValueError, match=named):
        perturb(tiny(), **levels)


@pytest.mark.parametrize("seed", [-1, True, 1.5, "0"])
def test_a_bad_seed_is_named(seed):
    with pytest.raises(ValueError, match="seed="):
        perturb(tiny(), noise=1, seed=seed)


def test_nothing_to_perturb_is_an_error():
    with pytest.raises(ValueError, match="Dict or image"):
        perturb(gymnasium.make("CartPole-v1"), noise=1)
    blind = gymnasium.wrappers.FilterObservation(tiny(), ["scan"])
    for axis, named in (("blur", "no image"), ("proprioception", "vector"), ("typos", "instruct")):
        with pytest.raises(ValueError, match=named):
            perturb(blind, **{axis: 1})
    with pytest.raises(ValueError, match="bounded"):
        perturb(Spy(spaces.MultiBinary(3)), action_noise=1)


def test_an_image_alone_is_perturbed():
    pixels = gymnasium.wrappers.TransformObservation(
        tiny(), lambda obs: obs["navigation_image"], spaces.Box(0, 255, (48, 48, 3), np.uint8)
    )
    obs, _ = perturb(pixels, occlusion=5, frame_delay=1).reset(seed=0)
    assert obs.shape == (48, 48, 3) and (obs != tiny().reset(seed=0)[0]["navigation_image"]).any()


def test_repr_of_a_wrapper_names_its_levels():
    """Runs are told apart by it."""
    from functools import partial

    assert "noise" in repr(partial(Perturbation, levels={"noise": 2}))
    assert "0x" not in repr(partial(Perturbation, levels={"noise": 2}))
