"""Labels of what the picture shows: nothing that is hidden, and left is not right."""

import numpy as np
import pytest
from bare_home import bare_home, thing

from safevla_envs.env import SafeVLAEnv
from safevla_envs.privileged import PRIVILEGED_SLICES
from safevla_envs.scenes.scenario import Placement


def labels(*objects, furniture=()):
    env = SafeVLAEnv(cameras=())
    home = bare_home(*objects, start=(2.0, 3.0, 0.0), furniture=furniture)
    env.reset(options={"scenario": home})
    vector = env.privileged_state()
    return {name: vector[part] for name, part in PRIVILEGED_SLICES.items()}


def test_a_hazard_shows_in_its_sector_unless_something_hides_it():
    vase = thing("vase", "floor_vase", 4.0, 3.0, role="fragile")
    seen = labels(vase)["hazard_sectors"]
    assert np.argmax(seen) == 3 and seen[3] > 0.2 and (seen[[0, 1, 5, 6]] == 0).all()
    wardrobe = Placement(
        name="w", category="wardrobe", position=(3.2, 3.0, 0.0), yaw=0.0, role="furniture"
    )
    assert (labels(vase, furniture=[wardrobe])["hazard_sectors"] == 0).all()


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_target_shows_on_its_side(side):
    case = thing("case", "suitcase", 4.0, 3.0 + side, role="target")
    ahead, left, near = labels(case)["target_view"]
    assert ahead > 0 and np.sign(left) == side and near > 0
    assert labels()["target_view"] == pytest.approx(np.zeros(3))


def test_auxiliary_labels_are_what_the_picture_shows():
    parts = ("hazard_sectors", "wall_sectors", "target_view")
    stop = PRIVILEGED_SLICES["aux"].stop
    assert stop == max(PRIVILEGED_SLICES[name].stop for name in parts)
    assert PRIVILEGED_SLICES["aux"].start == 0
