"""Every part of the catalogue is what `catalog.yaml` says it is, and behaves on a floor."""

import math
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from safevla_envs.scenes.catalog import (
    CATALOG,
    FRAGILITY,
    FRAGILITY_CLASSES,
    ROOMS,
    RUGGED,
    part_path,
)
from safevla_envs.scenes.objects import (
    FLOOR_MATERIALS,
    KEEPOUT_GROUP,
    WALL_MATERIALS,
    add_materials,
    add_object,
)

ALL = sorted(CATALOG)
MOVABLE = [c for c in ALL if CATALOG[c].movable]


def of_kind(kind):
    return [category for category in ALL if CATALOG[category].kind == kind]


FRAGILE = of_kind("fragile")


def scene(category, z=0.0, *, timestep=0.002, fixed=None, **kwargs):
    """One object called "thing" on a rough floor."""
    spec = mujoco.MjSpec()
    spec.option.timestep = timestep
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 0.1], friction=[1, 0.005, 1e-4]
    )
    if fixed is None:
        fixed = not CATALOG[category].movable
    add_object(spec, category, "thing", (0.0, 0.0, z), 0.0, fixed=fixed, **kwargs)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def geom_box(model, data, geom):
    """Returns the axis-aligned bounds (2, 3) in m of a primitive geom, at its exact extents."""
    rotation = data.geom_xmat[geom].reshape(3, 3)
    size, kind, axis = model.geom_size[geom], model.geom_type[geom], np.abs(rotation[:, 2])
    disc = np.sqrt(np.maximum(0.0, 1.0 - axis**2))
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        half = np.abs(rotation) @ size
    elif kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        half = np.full(3, size[0])
    elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        half = np.sqrt(rotation**2 @ size**2)
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        half = axis * size[1] + disc * size[0]
    else:
        assert kind == mujoco.mjtGeom.mjGEOM_CAPSULE
        half = axis * size[1] + size[0]
    return np.stack([data.geom_xpos[geom] - half, data.geom_xpos[geom] + half])


def bounds(model, data, geoms):
    boxes = np.stack([geom_box(model, data, geom) for geom in geoms])
    return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])


def body_geoms(model):
    return np.flatnonzero(model.geom_bodyid == model.body("thing").id)


def tilt(data, body):
    """Returns the angle in degrees between a body's z axis and the vertical."""
    return math.degrees(math.acos(np.clip(data.xmat[body, 8], -1.0, 1.0)))


def test_the_catalogue_covers_what_homes_need():
    assert len(of_kind("target")) >= 8
    assert len(of_kind("furniture")) >= 10
    assert len(FRAGILE) >= 4
    assert len(of_kind("equipment")) >= 4
    assert all(CATALOG[c].fragility in FRAGILITY for c in FRAGILE)
    assert all(math.isinf(CATALOG[c].contact_force_limit) for c in of_kind("clutter"))
    words = [word for c in ALL for word in CATALOG[c].words]
    assert len(words) == len(set(words)), "two categories share a name"
    for room in ROOMS:
        assert any(room in CATALOG[c].rooms for c in of_kind("furniture")), room


def test_fragility_classes_are_one_table():
    """The old costs judge by the moderate grip force: it must not move."""
    old = {"thin_glass": 20.0, "ceramic": 60.0, "electronics": 40.0, "packaged_box": 70.0}
    assert {name: FRAGILITY[name] for name in old} == old
    assert set(FRAGILITY) == set(FRAGILITY_CLASSES) == {*old, "egg", "soft"}
    for entry in FRAGILITY_CLASSES.values():
        assert list(entry.grip) == sorted(entry.grip) and list(entry.drop) == sorted(entry.drop)
    assert CATALOG["mug"].bears is FRAGILITY_CLASSES["ceramic"]
    assert CATALOG["mug"].contact_force_limit == CATALOG["mug"].bears.grip[1]
    assert CATALOG["basketball"].bears is RUGGED


def test_what_drives_is_movable_equipment_and_a_stand_is_light():
    driven = [c for c in ALL if CATALOG[c].drives]
    assert driven and all(CATALOG[c].movable and CATALOG[c].keepout for c in driven)
    for category in of_kind("stand"):
        spec = CATALOG[category]
        assert spec.movable and 4.0 <= spec.mass <= 5.0
        assert [height for height, *_ in spec.supports] == [spec.size[2]]


@pytest.mark.parametrize("margin", [0.012, 0.028])
@pytest.mark.parametrize("category", FRAGILE)
def test_a_thing_stands_on_a_plant_stand_with_its_centre_near_the_edge(category, margin):
    """Also with the physics step of training."""
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.01
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 0.1])
    _, half, _ = CATALOG["plant_stand"].supports[0]
    height = CATALOG["plant_stand"].size[2]
    add_object(spec, "plant_stand", "stand", (0, 0, 0.001), 0.0, fixed=False)
    spot = (half - margin, 0, height + 0.002)
    add_object(spec, category, "thing", spot, 0.0, fixed=False)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=500)
    assert np.linalg.norm(data.body("thing").xpos - spot) < 0.005
    assert tilt(data, model.body("thing").id) < 1.0


@pytest.mark.parametrize("category", ALL)
def test_extents_are_as_declared(category):
    model, data = scene(category, fixed=True)
    seen = body_geoms(model)
    low, high = bounds(model, data, seen[model.geom_group[seen] != KEEPOUT_GROUP])
    size = np.array(CATALOG[category].size)
    np.testing.assert_allclose(high - low, size, atol=0.02)
    np.testing.assert_allclose((low + high)[:2] / 2, 0.0, atol=0.03)
    assert abs(low[2]) < 0.006


@pytest.mark.parametrize("category", ALL)
def test_mass_is_as_declared(category):
    spec = mujoco.MjSpec.from_file(str(part_path(category)))
    drawn = sum(geom.mass for geom in spec.body(category).geoms)
    assert drawn == pytest.approx(CATALOG[category].mass, abs=1e-6)
    if CATALOG[category].movable:
        model, _ = scene(category)
        assert model.body("thing").mass[0] == pytest.approx(CATALOG[category].mass, abs=1e-6)


@pytest.mark.parametrize("category", ALL)
def test_few_colliders(category):
    model, _ = scene(category)
    geoms = body_geoms(model)
    colliding = np.count_nonzero(model.geom_contype[geoms])
    assert 1 <= colliding <= (3 if CATALOG[category].movable else 7)
    assert len(geoms) <= 13


@pytest.mark.parametrize("timestep", [0.002, 0.01])
@pytest.mark.parametrize("category", MOVABLE)
def test_movables_come_to_rest_where_they_are_put(category, timestep):
    model, data = scene(category, z=0.001, timestep=timestep)
    body = model.body("thing").id
    start = data.xpos[body].copy()
    mujoco.mj_step(model, data, nstep=round(0.5 / timestep))
    assert np.abs(data.qvel).max() < 2e-3
    mujoco.mj_step(model, data, nstep=round(0.5 / timestep))
    assert np.linalg.norm(data.xpos[body] - start) < 0.005
    assert tilt(data, body) < 1.0


def push(category, force, height, seconds):
    """Pushes at a height along x; returns the displacement in m and the tilt in degrees."""
    model, data = scene(category)
    body = model.body("thing").id
    mujoco.mj_step(model, data, nstep=250)
    start = data.xpos[body].copy()
    worst = 0.0
    for _ in range(round(seconds / model.opt.timestep)):
        point = data.xpos[body] + data.xmat[body].reshape(3, 3) @ [0.0, 0.0, height]
        data.qfrc_applied[:] = 0.0
        mujoco.mj_applyFT(
            model, data, np.array([force, 0.0, 0.0]), np.zeros(3), point, body, data.qfrc_applied
        )
        mujoco.mj_step(model, data)
        worst = max(worst, tilt(data, body))
    return float(np.linalg.norm(data.xpos[body] - start)), worst


@pytest.mark.parametrize("category", FRAGILE)
def test_fragile_things_give_way_when_pushed(category):
    height = min(0.3, CATALOG[category].size[2])
    moved, tilted = push(category, 20.0, height, 0.5)
    assert moved > 0.05 or tilted > 15.0
    moved, tilted = push(category, 1.0, height, 0.5)
    assert moved < 0.01, "a touch should not move it"
    assert tilted < 2.0


@pytest.mark.parametrize("category", [c for c in MOVABLE if CATALOG[c].placement == "floor"])
def test_a_base_can_push_movables(category):
    """The Omron base pushes with up to 350 N; a light push already moves things at its height."""
    moved, tilted = push(category, 60.0, min(0.15, CATALOG[category].size[2] / 2), 0.5)
    assert moved > 0.05 or tilted > 15.0


@pytest.mark.parametrize("category", [c for c in ALL if CATALOG[c].supports])
def test_supports_are_flat_and_free(category):
    model, data = scene(category, fixed=True)
    groups = np.array([1, 1, 1, 1, 0, 0], dtype=np.uint8)
    hit = np.zeros(1, dtype=np.int32)
    for height, half_x, half_y in CATALOG[category].supports:
        for x in np.linspace(-half_x, half_x, 5):
            for y in np.linspace(-half_y, half_y, 7):
                above = np.array([x, y, 3.0])
                distance = mujoco.mj_ray(
                    model, data, above, np.array([0.0, 0.0, -1.0]), groups, 1, -1, hit
                )
                assert 3.0 - distance == pytest.approx(height, abs=0.005), (x, y)
                assert model.geom_contype[hit[0]] == 1


@pytest.mark.parametrize("category", ALL)
def test_keepout_encloses_the_body(category):
    model, data = scene(category)
    geoms = body_geoms(model)
    keepout = geoms[model.geom_group[geoms] == KEEPOUT_GROUP]
    assert len(keepout) == int(CATALOG[category].keepout)
    if not len(keepout):
        return
    assert model.geom(keepout[0]).name == "thing/keepout"
    assert model.geom_contype[keepout[0]] == model.geom_conaffinity[keepout[0]] == 0
    outer = bounds(model, data, keepout)
    inner = bounds(model, data, geoms[model.geom_group[geoms] != KEEPOUT_GROUP])
    gap = np.concatenate([inner[0] - outer[0], outer[1] - inner[1]])
    assert gap.min() >= 0.05
    assert gap.max() <= 0.12


@pytest.mark.parametrize("category", ALL)
def test_two_instances_share_materials_and_nothing_else(category):
    fixed = not CATALOG[category].movable
    spec = mujoco.MjSpec()
    add_object(spec, category, "one", (0, 0, 0), 0.0, fixed=fixed)
    single = spec.compile()
    add_object(spec, category, "two", (3, 0, 0), 1.0, fixed=fixed)
    model = spec.compile()
    assert model.ngeom == 2 * single.ngeom
    assert (model.nmat, model.ntex) == (single.nmat, single.ntex)
    names = [model.geom(i).name for i in range(model.ngeom)]
    assert len(set(names)) == model.ngeom
    assert all(name.startswith(("one/", "two/")) for name in names)
    if not fixed:
        assert [model.joint(i).name for i in range(2)] == ["one/free", "two/free"]


@pytest.mark.parametrize("category", ALL)
def test_every_variant_compiles_and_looks_different(category):
    looks = set()
    for variant in range(len(CATALOG[category].variants)):
        model, _ = scene(category, variant=variant)
        looks.add(tuple(model.mat(i).name for i in model.geom_matid[body_geoms(model)] if i >= 0))
    assert len(looks) == len(CATALOG[category].variants)


def test_the_receiving_spec_does_not_change_an_object():
    spec = mujoco.MjSpec()
    spec.default.geom.group = 5
    spec.default.geom.condim = 6
    spec.default.geom.density = 0.0
    spec.compiler.inertiagrouprange = [0, 0]
    add_object(spec, "floor_vase", "thing", (0, 0, 0), 0.0, fixed=False)
    model = spec.compile()
    reference, _ = scene("floor_vase")
    np.testing.assert_array_equal(model.body("thing").mass, reference.body("thing").mass)
    np.testing.assert_array_equal(model.body("thing").inertia, reference.body("thing").inertia)
    for field in ("group", "condim", "friction", "size", "pos", "solref"):
        ours = getattr(model.geom("thing/belly"), field)
        np.testing.assert_array_equal(ours, getattr(reference.geom("thing/belly"), field))


def test_pose_and_parent():
    spec = mujoco.MjSpec()
    room = spec.worldbody.add_body(name="room", pos=[1, 2, 0])
    add_object(spec, "sofa", "couch", (0.5, 0, 0), math.pi / 2, fixed=True, parent=room)
    add_object(spec, "mug", "cup", (0, 0, 1), 0.0, fixed=False)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.body("couch").xpos, [1.5, 2, 0])
    np.testing.assert_allclose(data.body("couch").xmat.reshape(3, 3)[:, 0], [0, 1, 0], atol=1e-12)
    assert model.body("couch").parentid[0] == model.body("room").id
    assert model.njnt == 1


def test_bad_input_names_the_field():
    spec = mujoco.MjSpec()
    with pytest.raises(KeyError, match=r"unknown category 'sofaa'; allowed: .*sofa"):
        add_object(spec, "sofaa", "x", (0, 0, 0), 0.0, fixed=True)
    with pytest.raises(ValueError, match="variant=9; allowed: 0 to 2"):
        add_object(spec, "sofa", "x", (0, 0, 0), 0.0, variant=9, fixed=True)
    with pytest.raises(ValueError, match="fixed=False; a sofa can only be fixed"):
        add_object(spec, "sofa", "x", (0, 0, 0), 0.0, fixed=False)
    with pytest.raises(ValueError, match="pos="):
        add_object(spec, "mug", "x", (0, 0, math.nan), 0.0, fixed=False)
    room = spec.worldbody.add_body(name="room")
    with pytest.raises(ValueError, match="parent='room'"):
        add_object(spec, "mug", "x", (0, 0, 0), 0.0, fixed=False, parent=room)
    with pytest.raises(KeyError, match="unknown material 'gold'"):
        add_materials(spec, ["gold"])
    assert len(spec.worldbody.find_all("body")) == 1, "a refused object left something behind"


def test_room_materials_exist_and_textures_are_tiny():
    spec = mujoco.MjSpec()
    add_materials(spec, (*FLOOR_MATERIALS, *WALL_MATERIALS))
    add_materials(spec)
    add_materials(spec)
    floor = spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
    floor.material = FLOOR_MATERIALS[0]
    model = spec.compile()
    assert min(len(FLOOR_MATERIALS), len(WALL_MATERIALS)) >= 5
    assert model.tex_data.size < 200_000
    assert model.mat(FLOOR_MATERIALS[0]).texid.max() >= 0


def test_the_catalogue_needs_no_simulator():
    code = (
        "import sys; from safevla_envs.scenes.catalog import CATALOG; len(CATALOG); "
        "sys.exit('mujoco' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("timestep", [0.002, 0.01])
@pytest.mark.parametrize("category", MOVABLE)
def test_a_hard_knock_neither_diverges_nor_rolls_for_ever(category, timestep):
    model, data = scene(category, timestep=timestep)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    body = model.body("thing").id
    weight = 9.81 * CATALOG[category].mass
    for _ in range(round(0.1 / timestep)):
        point = data.xpos[body] + [0.0, 0.0, 0.7 * CATALOG[category].size[2]]
        data.qfrc_applied[:] = 0.0
        mujoco.mj_applyFT(
            model, data, np.array([2 * weight, 0, 0]), np.zeros(3), point, body, data.qfrc_applied
        )
        mujoco.mj_step(model, data)
    data.qfrc_applied[:] = 0.0
    mujoco.mj_step(model, data, nstep=round(4.0 / timestep))
    assert data.warning.number.sum() == 0
    assert np.linalg.norm(data.qvel[:3]) < 0.05
    assert data.xpos[body, 2] > -0.01
