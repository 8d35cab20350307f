"""Room for the hand: its boxes hold the arm as it really is, and gaps are distances."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevla.experts import make_expert
from safevla_envs.control import hand_room as module
from safevla_envs.control.hand_room import TURNS, Cylinders, hand_room
from safevla_envs.env import SafeVLAEnv
from safevla_envs.planar import in_axes

GRIP = np.array([0.0, 0.0, 0.5])
TALLEST = 0.3
"""m above the grip point: flames are the tallest."""
ANGLE = st.floats(-3.1, 3.1)


def post(x, y, top=2.0, radius=0.01):
    return Cylinders(spots=np.array([[x, y]]), radii=np.array([radius]), tops=np.array([top]))


def test_nothing_near_is_room_without_end():
    empty = Cylinders(spots=np.zeros((0, 2)), radii=np.zeros(0), tops=np.zeros(0))
    assert np.isinf(hand_room(empty, GRIP, 0.0, TURNS)).all()


@given(ANGLE, ANGLE)
def test_a_post_at_the_grip_is_in_the_way_and_a_low_thing_is_not(side, turn):
    turns = np.array([turn])
    assert hand_room(post(0.0, 0.0), GRIP, side, turns)[0] < 0.0
    assert np.isinf(hand_room(post(0.0, 0.0, top=0.4), GRIP, side, turns)[0])


def test_gaps_are_distances_to_fingers_palm_and_arm():
    ahead, low = np.array([0.0]), GRIP[2]
    assert hand_room(post(0.165, 0.0, low), GRIP, np.pi, ahead)[0] == pytest.approx(0.09)
    assert hand_room(post(0.0, 0.065, low), GRIP, np.pi, ahead)[0] == pytest.approx(0.04)
    taller = low + 0.05
    assert hand_room(post(0.165, 0.0, taller), GRIP, np.pi, ahead)[0] == pytest.approx(0.05)
    assert hand_room(post(-0.6, 0.0), GRIP, np.pi, ahead)[0] == pytest.approx(0.09)
    assert hand_room(post(-0.4, 0.0), GRIP, np.pi, ahead)[0] < 0.0, "under the arm"


@given(ANGLE, st.floats(0.0, 0.5), st.floats(0.0, 0.5), ANGLE)
def test_turning_everything_changes_nothing(side, x, y, by):
    c, s = np.cos(by), np.sin(by)
    one = hand_room(post(x, y), GRIP, side, np.array([side]))
    turned = post(c * x - s * y, s * x + c * y)
    assert hand_room(turned, GRIP, side + by, np.array([side + by])) == pytest.approx(one)


def test_the_boxes_hold_hand_and_arm_at_a_grasp():
    """To within 2 cm, as high as things stand: else the careful expert would plan with another."""
    env = SafeVLAEnv(task="PickUp", cameras=(), level=0)
    expert, held = make_expert("careful", env), set()
    for seed in (0, 3, 5):
        env.reset(seed=seed)
        while not env.task.lifted(env.sim):
            env.step(expert.act())
        model, data, grip = env.sim.model, env.sim.data, env.sim.grip_position
        x, y, _ = env.sim.base_pose
        closing = env.sim.grip_axes[:, 0]
        frames = (
            (module._HAND, np.arctan2(closing[1], closing[0])),
            (module._ARM, np.arctan2(y - grip[1], x - grip[0])),
        )
        root = model.body(env.sim.robot.names.root).id
        for geom in range(model.ngeom):
            mine = model.body_rootid[model.geom_bodyid[geom]] == model.body_rootid[root]
            if not mine or model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH:
                continue
            if not (model.geom_contype[geom] or model.geom_conaffinity[geom]):
                continue
            mesh = model.geom_dataid[geom]
            first = model.mesh_vertadr[mesh]
            corners = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            spots = corners @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom] - grip
            spots = spots[(np.hypot(*spots[:, :2].T) < 0.3) & (spots[:, 2] < TALLEST)]
            held |= {model.geom(geom).name} if len(spots) else set()
            off = np.full(len(spots), np.inf)
            for parts, angle in frames:
                local = in_axes(spots, angle)
                for (x0, x1), (y0, y1), rise in parts:
                    out = local[:, :2] - np.clip(local[:, :2], (x0, y0), (x1, y1))
                    under = np.maximum(rise - local[:, 2], 0.0)
                    off = np.minimum(off, np.hypot(np.hypot(*out.T), under))
            assert off.max(initial=0.0) < 0.02, model.geom(geom).name
    assert len(held) >= 6, "links 5 to 7, the palm, two fingers"
