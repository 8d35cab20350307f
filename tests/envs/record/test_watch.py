"""What is watched is found by name in any compiled model, and what is not there is named."""

import mujoco
import numpy as np
import pytest
from arm_scene import ARM, ARM_PARTS, KEEPOUT, KEEPOUT_PARTS, PLATE, build

from safevla_envs.record.watch import TOUCHES, RobotParts, Watch


def test_a_model_is_only_read():
    """Compiled by somebody else, without any sensor."""
    model, _, recorder = build(ARM, counter=False, **ARM_PARTS)
    watch = recorder.watch
    assert model.nsensor == 0 and watch.touches == -1
    assert watch.partners == ARM_PARTS["partners"] and watch.regions == 2
    assert watch.qpos.tolist() == [model.joint(n).qposadr[0] for n in ("j3", "j1")]
    assert watch.dofs.tolist() == [model.joint(n).dofadr[0] for n in ("j3", "j1")]
    assert watch.servos.tolist() == [model.actuator(n).id for n in ("s3", "s1")]
    site = model.site("tip")
    assert watch.tip.tolist() == [site.id, site.bodyid[0], model.body("upper").id]


def bodies_of(model: mujoco.MjModel, mask: np.ndarray) -> set[str]:
    return {model.body(model.geom_bodyid[g]).name for g in np.flatnonzero(mask)}


def test_masks_hold_whole_subtrees_but_the_inner_side_of_a_pair():
    model, _, recorder = build(ARM, **ARM_PARTS)
    watch = recorder.watch
    assert bodies_of(model, watch.robot) == {"robot", "upper", "fore", "hand"}
    of = [bodies_of(model, mask) for mask in watch.others.T]
    assert of == [{"floor"}, {"room", "shelves"}, {"can"}, {"cup"}, {"can"}, {"room", "shelves"}]
    assert [bodies_of(model, m) for m in watch.outer.T] == [{"fore", "hand"}, {"hand"}]
    assert [bodies_of(model, m) for m in watch.inner.T] == [{"robot"}, {"upper"}]
    assert [bodies_of(model, m) for m in watch.fingers.T] == [{"hand"}]
    nodes = [bodies_of(model, watch.node == n) for n in range(6)]
    assert nodes == [bodies_of(model, watch.robot), *of[:4], set()]
    assert watch.parts.self_names == ("fore|robot", "hand|upper")


def test_a_partner_inside_the_robots_tree_is_not_the_robot_in_the_graph():
    model, _, recorder = build(ARM, partners=("fore", "hand"))
    nodes = [bodies_of(model, recorder.watch.node == n) for n in range(3)]
    assert nodes == [{"robot", "upper"}, {"fore"}, {"hand"}]


def test_keepouts_are_kept_from_colliding_shapes_of_the_named_bodies():
    model, _, recorder = build(KEEPOUT, **KEEPOUT_PARTS)
    watch, volume = recorder.watch, model.geom("stove/keepout").id
    own = [g for g in range(model.ngeom) if model.geom_bodyid[g] == model.body("robot").id]
    assert watch.inside.tolist() == own[:2], "not the visual skin"
    assert watch.volumes.tolist() == [volume]
    pairs, _ = watch.pairs(model, np.zeros(model.ngeom, dtype=bool))
    assert pairs.tolist() == [[0, g, volume] for g in own[:2]]
    assert watch.owners.tolist() == [1]


def test_the_counter_is_found_where_it_is():
    model, _, recorder = build(ARM, **ARM_PARTS)
    assert recorder.watch.touches == model.sensor(TOUCHES).adr[0]


def test_a_robot_may_have_no_more_than_a_root():
    _, data, recorder = build(PLATE, counter=False)
    recorder.tick()
    assert recorder.contact_force.shape[1] == 0 and recorder.graph().tolist() == [[False]]
    assert not recorder.rows.tip_speed.any() and data.time == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partners": ("floor", "vase")}, r"^partners: \['vase'\] not in the model"),
        ({"partners": ("can", "can")}, r"^partners: \['can'\] named twice"),
        ({"regions": ("leg",)}, r"^regions: \['leg'\] not in the model"),
        ({"root": "arm"}, r"parts.root: \['arm'\]"),
        ({"self_pairs": (("hand", "leg"),)}, r"parts.self_pairs: \['leg'\]"),
        ({"self_pairs": (("hand", "robot"),) * 2}, r"parts.self_pairs: \['hand\|robot'\] named tw"),
        ({"joints": ("j9", "j1")}, r"parts.joints: \['j9'\]"),
        ({"servos": ("s9", "s1")}, r"parts.servos: \['s9'\]"),
        ({"servos": ("s1",)}, "parts.servos: 1 for 2 joints"),
        ({"fingers": ("thumb",)}, r"parts.fingers: \['thumb'\]"),
        ({"tip": ("nib", "upper")}, r"parts.tip: \['nib'\]"),
        ({"tip": ("tip", "torso")}, r"parts.tip: \['torso'\]"),
        ({"keepouts": {"can": "ring"}, "keepout": ("hand",)}, r"keepouts: \['ring'\]"),
        ({"keepouts": {"lamp": "pole"}, "keepout": ("hand",)}, r"keepouts: \['lamp'\]"),
        ({"keepouts": {"can": "pole"}}, r"parts.keepout=\[\]: no colliding"),
        ({"keepout": ("leg",)}, r"parts.keepout: \['leg'\]"),
        ({"steps": 0}, "substeps=0"),
    ],
)
def test_bad_requests_are_named(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(ARM, **{"counter": False, **ARM_PARTS, **changes})


def test_a_static_robot_in_a_sleeping_world_is_refused():
    """MuJoCo drops contacts between static bodies there: the arm on the floor would read 0."""
    sleepy = PLATE.replace('"0.002"/>', '"0.002"><flag sleep="enable"/></option>')
    with pytest.raises(ValueError, match="root='robot' is static"):
        build(sleepy, partners=("floor", "box"))
    model = mujoco.MjModel.from_xml_string(sleepy)
    assert Watch.of(model, RobotParts(root="box"), ("floor",)).partners == ("floor",)
