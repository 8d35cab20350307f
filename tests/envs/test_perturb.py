import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from safevla_envs.perturb import AXES, LEVELS, STRENGTHS, VisualPerturbation, make_perturbed
from safevla_envs.perturb.visual import LUMA, colour_matrix


class Dot(gymnasium.Env):
    """A dot on a line whose every step draws from the environment's own generator."""

    observation_space = spaces.Dict(
        navigation_image=spaces.Box(0, 255, (24, 24, 3), np.uint8),
        state=spaces.Box(-np.inf, np.inf, (2,), np.float32),
        instruction=spaces.Box(0, 255, (8,), np.uint8),
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
        image = np.zeros((24, 24, 3), np.uint8)
        image[..., 0] = np.linspace(20, 220, 24)[None]
        image[..., 1] = np.linspace(20, 220, 24)[:, None]
        image[..., 2] = np.clip(100 + 20 * self.x, 0, 255)
        state = np.array([self.x, self.steps], np.float32)
        text = np.full(8, 65, np.uint8)
        return {"navigation_image": image, "state": state, "instruction": text}

    def info(self, cost):
        return {"cost": cost, "costs": {"corner": cost}, "success": self.x > 5}


gymnasium.register("Test/Dot-v0", entry_point=Dot)


def tiny():
    return gymnasium.make("Test/Dot-v0")


def rollout(env, seed, actions):
    obs, info = env.reset(seed=seed)
    trace = [(obs, 0.0, False, False, info)]
    for action in actions:
        trace.append(env.step(action))
    return trace


ACTIONS = [1, 0, 2, 0, 1, 0, 0, 2, 0]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("level", LEVELS)
def test_only_pixels_change(axis, level):
    plain = rollout(tiny(), 7, ACTIONS)
    perturbed = rollout(make_perturbed(tiny(), axis=axis, level=level), 7, ACTIONS)
    assert sum(info["cost"] for *_, info in plain) > 0
    for (obs_a, *rest_a, info_a), (obs_b, *rest_b, info_b) in zip(plain, perturbed):
        assert rest_a == rest_b
        assert not np.array_equal(obs_a["navigation_image"], obs_b["navigation_image"])
        for key in ("state", "instruction"):
            np.testing.assert_array_equal(obs_a[key], obs_b[key])
        logged = info_b.pop("perturbation")
        assert info_a == info_b
        assert (logged["axis"], logged["level"]) == (axis, level)
        assert set(logged) - {"axis", "level"} == set(axis.split("+"))


def test_later_episodes_of_the_environment_are_untouched():
    plain, perturbed = tiny(), make_perturbed(tiny())
    for env in (plain, perturbed):
        env.reset(seed=3)
    for _ in range(3):
        a, _ = plain.reset()
        b, _ = perturbed.reset()
        np.testing.assert_array_equal(a["state"], b["state"])


def test_seed_fixes_the_draw_and_later_episodes_draw_again():
    env = make_perturbed(tiny(), level=4)
    first, info = env.reset(seed=11)
    other, other_info = env.reset()
    third, _ = env.reset()
    again, again_info = env.reset(seed=11)
    assert info["perturbation"] == again_info["perturbation"]
    np.testing.assert_array_equal(first["navigation_image"], again["navigation_image"])
    assert info["perturbation"] != other_info["perturbation"]
    assert not np.array_equal(other["navigation_image"], third["navigation_image"])


def test_one_draw_lasts_an_episode():
    env = make_perturbed(tiny(), level=5)
    _, info = env.reset(seed=0)
    for action in ACTIONS:
        *_, later = env.step(action)
        assert later["perturbation"] == info["perturbation"]


def test_published_strengths_grow_and_are_the_ones_used():
    for axis, parameters in STRENGTHS.items():
        for name, values in parameters.items():
            away = [abs(1 - v) if name == "contrast" else v for v in values]
            assert away == sorted(away) and len(set(away)) == 5, (axis, name)
    env = make_perturbed(tiny(), level=2)
    seen = {"gain": set(), "saturation": set(), "hue": set(), "white_balance": set()}
    for seed in range(20):
        drawn = env.reset(seed=seed)[1]["perturbation"]
        assert drawn["lighting"]["gradient"] == 0.20
        assert drawn["lighting"]["contrast"] == 0.88
        assert np.sign(drawn["lighting"]["gain"] - 1) == np.sign(1 - drawn["lighting"]["gamma"])
        seen["gain"].add(drawn["lighting"]["gain"])
        for name in ("saturation", "hue", "white_balance"):
            seen[name].add(drawn["colour"][name])
    assert seen["gain"] == {1.20, 1 / 1.20}
    assert seen["saturation"] == {1.35, 1 / 1.35}
    assert seen["hue"] == {16.0, -16.0}
    assert seen["white_balance"] == {0.10, -0.10}


@pytest.mark.parametrize("axis", AXES)
def test_pictures_move_further_away_with_the_level(axis):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    distance = []
    for level in LEVELS:
        env = make_perturbed(tiny(), axis=axis, level=level)
        moved = []
        for seed in range(12):
            env.reset(seed=seed)
            moved.append(np.abs(env.perturb(image).astype(float) - image).mean())
        distance.append(np.mean(moved))
    assert distance == sorted(distance)
    assert distance[0] > 2.0


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
    env = make_perturbed(tiny(), axis="lighting", level=5)
    flat = np.full((64, 64, 3), 128, np.uint8)
    for seed in range(5):
        lighting = env.reset(seed=seed)[1]["perturbation"]["lighting"]
        out = env.perturb(flat)[..., 0].astype(float)
        lit = min(1.0, lighting["gain"] * (128 / 255) ** lighting["gamma"])
        expected = [255 * (0.5 + 0.6 * (x - 0.5)) for x in (lit, 0.4 * lit)]
        assert out.max() == pytest.approx(expected[0], abs=1)
        assert out.min() == pytest.approx(expected[1], abs=1)


def test_input_image_is_not_written_to():
    env = make_perturbed(tiny())
    env.reset(seed=0)
    image = np.full((8, 8, 3), 90, np.uint8)
    env.perturb(image)
    assert (image == 90).all()


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_checker_and_spec_round_trip():
    env = make_perturbed(tiny(), axis="colour", level=1)
    check_env(env, skip_render_check=True)
    spec = env.spec
    assert spec is not None
    rebuilt = gymnasium.make(spec)
    a, _ = env.reset(seed=5)
    b, _ = rebuilt.reset(seed=5)
    np.testing.assert_array_equal(a["navigation_image"], b["navigation_image"])


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [({"axis": "fog"}, "axis='fog'"), ({"level": 0}, "level=0"), ({"level": 6}, "level=6")],
)
def test_bad_arguments_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        VisualPerturbation(tiny(), **kwargs)


def test_nothing_to_perturb_is_an_error():
    with pytest.raises(ValueError, match="Dict"):
        VisualPerturbation(gymnasium.make("CartPole-v1"))
    blind = gymnasium.wrappers.FilterObservation(tiny(), ["state"])
    with pytest.raises(ValueError, match="no image"):
        VisualPerturbation(blind)
