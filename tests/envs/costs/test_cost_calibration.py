"""Calibration of the limits against physics: falls of every class, pushes against a force plate."""

import mujoco
import numpy as np
import pytest
from quiet_world import ANNA, BEN, NAMES, REGIONS, STEPS, body, charge, fired, force, quiet

from safevla_envs.costs import FRAGILITY_CLASSES, REGION_LIMITS
from safevla_envs.scenes.catalog import CATALOG

# ---- falls ----------------------------------------------------------------------------------

DROP = """
<mujoco><option timestep="0.0005"/>
<worldbody><geom type="plane" size="1 1 .1"/>
  <body name="thing" pos="0 0 {height}"><freejoint/>
    <geom type="box" size=".03 .03 .03" mass="{mass}"/></body></worldbody></mujoco>"""


@pytest.mark.parametrize("level", range(3))
@pytest.mark.parametrize("name", FRAGILITY_CLASSES)
def test_a_fall_ends_with_the_speed_of_its_class(name: str, level: int):
    """From each of the three heights; the speed lost on the floor is sqrt(2 g h)."""
    height = FRAGILITY_CLASSES[name].drop[level]
    model = mujoco.MjModel.from_xml_string(DROP.format(height=0.03 + height, mass=0.3))
    data = mujoco.MjData(model)
    fastest = 0.0
    while data.time < 1.0:
        mujoco.mj_step(model, data)
        fastest = max(fastest, -float(data.qvel[2]))
    assert data.qpos[2] == pytest.approx(0.03, abs=0.001), "it lies on the floor"
    assert fastest == pytest.approx(FRAGILITY_CLASSES[name].delta_v[level], rel=0.05)


def test_the_catalogue_judges_contact_by_the_same_classes():
    fragile = [spec for spec in CATALOG.values() if spec.fragility is not None]
    assert fragile
    for spec in fragile:
        assert spec.contact_force_limit == FRAGILITY_CLASSES[spec.fragility].grip[1]


# ---- force plate ----------------------------------------------------------------------------

PLATE = """
<mujoco><option timestep="0.0001" gravity="0 0 0" integrator="implicitfast"/>
<default><geom friction="0 0 0" solref=".0004 1"/></default>
<worldbody>
  <body name="robot" pos="-.2 0 0"><joint name="robot" type="slide" axis="1 0 0"/>
    <geom type="box" size=".1 .1 .1" mass="{robot}"/></body>
  <body name="person" pos=".3 0 0"><joint type="slide" axis="1 0 0"/>
    <geom type="box" size=".05 .1 .1" mass="{person}" contype="0" conaffinity="0"/>
    <body name="plate" pos="-.38 0 0"><joint name="plate" type="slide" axis="1 0 0"
        stiffness="{stiffness}"/>
      <geom type="box" size=".01 .1 .1" mass="{plate}"/></body></body>
</worldbody></mujoco>"""


def plate_force(region: str, speed: float) -> float:
    """Greatest force in N of the spring behind a plate of 1 % of the masses, hit at `speed`."""
    limit = REGION_LIMITS[region]
    light = 0.01 * min(limit.mass, limit.robot_mass)
    model = mujoco.MjModel.from_xml_string(
        PLATE.format(
            robot=limit.robot_mass,
            person=limit.mass - light,
            plate=light,
            stiffness=limit.stiffness,
        )
    )
    data = mujoco.MjData(model)
    data.joint("robot").qvel = speed
    mujoco.mj_forward(model, data)
    greatest = 0.0
    for _ in range(20_000):
        mujoco.mj_step(model, data)
        compressed = float(data.joint("plate").qpos[0])
        greatest = max(greatest, limit.stiffness * compressed)
        if greatest > 0.0 and compressed < 0.2 * greatest / limit.stiffness:
            break
    return greatest


@pytest.mark.parametrize("speed", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("index", range(len(REGIONS)))
def test_a_push_against_a_force_plate(index: int, speed: float):
    """The charge's F = v sqrt(k mu) is what the plate reads, within 5 %, and judged so."""
    region = REGIONS[index]
    limit = REGION_LIMITS[region.name]
    measured = plate_force(region.name, speed)
    assert measured == pytest.approx(limit.impedance * speed, rel=0.05)
    who = NAMES.index(region.partner)
    assert who in (ANNA, BEN)
    pressed = np.zeros((STEPS, len(REGIONS)))
    pressed[5:, index] = 1.0
    before = quiet(closing_robot=body(who, speed), closing_mover=body(who, 0.0))
    result = charge(before, quiet(0.05, contact_force=force(who, 1.0), region_force=pressed))
    if abs(measured / limit.impact_limit - 1.0) > 0.05:
        assert bool(fired(result)) == (measured > limit.impact_limit)
    for event in result["cost_events"]:
        assert event["peak"] * limit.impact_limit == pytest.approx(measured, rel=0.05)


def test_the_plate_sees_both_sides_of_the_limits():
    """Some pushes are allowed and some are not, so that the test above decides something."""
    verdicts = {
        limit.impedance * speed > limit.impact_limit
        for limit in (REGION_LIMITS[r.name] for r in REGIONS)
        for speed in (0.1, 0.2, 0.5)
    }
    assert verdicts == {True, False}
