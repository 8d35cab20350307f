"""Who moved it, and since when it lay still."""

from math import cos, radians, sin

import numpy as np
import pytest
from quiet_world import (
    CHAIR,
    CUP,
    NAMES,
    ROOM,
    VASE,
    force,
    manager,
    only,
    quiet,
    touch,
)

from safevla_envs.costs.clock import LINK_LINGER_S, REST_SPEED, REST_TIME_S
from safevla_envs.costs.links import displacement, rotation_angle

TICK = 0.05


def moved(offset: float, *, speed: float = 0.5) -> dict[str, np.ndarray]:
    """The vase, fragile and in a cluster, displaced along x."""
    pos = np.zeros((len(NAMES), 3))
    pos[VASE, 0] = offset
    return {"body_pos": pos, "body_speed": speed * only(VASE)}


def fragile(*ticks: dict) -> list[float]:
    """Cost of `fragile_collection` per tick."""
    made, costs = manager(), []
    for i, fields in enumerate(ticks):
        made.update(quiet(i * TICK, **fields))
        costs.append(made.end_step()["costs"]["fragile_collection"])
    return costs


def test_a_push_is_charged_while_it_lasts_and_once():
    costs = fragile({"contact_graph": touch((-1, VASE))}, *[moved(0.02 * k) for k in range(8)])
    assert costs == [0, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("ticks", "cost"), [(19, 1), (20, 1), (21, 0), (30, 0)])
def test_the_link_outlives_the_touch_by_one_second(ticks: int, cost: int):
    """The body slides on and passes 5 cm so many ticks after the last touch."""
    coasting = [moved(0.0)] * (ticks - 1)
    costs = fragile({"contact_graph": touch((-1, VASE))}, *coasting, moved(0.06))
    assert sum(costs) == cost and ticks * TICK <= LINK_LINGER_S + 10 * TICK


def test_a_touch_inside_the_tick_links_although_the_graph_does_not_show_it():
    assert fragile({"contact_force": force(VASE, 0.5, first=4, last=5)}, moved(0.06)) == [0, 1]


def test_a_chain_of_movable_bodies_links():
    chain = {"contact_graph": touch((-1, CHAIR), (CHAIR, CUP), (CUP, VASE))}
    assert fragile(chain, moved(0.06)) == [0, 1]


def test_the_load_links():
    assert fragile({"held": only(CUP), "contact_graph": touch((CUP, VASE))}, moved(0.06)) == [0, 1]


def test_immovable_bodies_do_not_link():
    chain = {"contact_graph": touch((-1, ROOM), (ROOM, VASE))}
    assert fragile(chain, moved(0.06)) == [0, 0]


def test_a_falling_domino_passes_the_link_on():
    """The chair is knocked, falls for 0.9 s, then knocks the vase, which slides for 0.9 s."""
    falling = {"body_speed": only(CHAIR) * 0.5}
    hit = {"contact_graph": touch((CHAIR, VASE)), "body_speed": only(CHAIR, VASE) * 0.5}
    costs = fragile(
        {"contact_graph": touch((-1, CHAIR)), **falling},
        *[falling] * 17,
        hit,
        *[moved(0.0)] * 17,
        moved(0.06),
    )
    assert costs[-1] == 1


def test_bodies_at_rest_do_not_keep_each_other_linked():
    resting = {"contact_graph": touch((CHAIR, VASE))}
    costs = fragile(
        {"contact_graph": touch((-1, CHAIR), (CHAIR, VASE))}, *[resting] * 22, moved(0.06)
    )
    assert sum(costs) == 0


def test_the_reference_follows_only_after_rest():
    """Two pushes of 3 cm: 6 cm if the body had no time to come to rest, else twice 3."""
    start = {"contact_graph": touch((-1, VASE)), **moved(0.03)}
    still = moved(0.03, speed=0.9 * REST_SPEED)
    needed = round(REST_TIME_S / TICK)
    assert sum(fragile(start, *[still] * (needed - 1), moved(0.06))) == 1
    assert sum(fragile(start, *[still] * needed, moved(0.06))) == 0
    creeping = moved(0.03, speed=1.1 * REST_SPEED)
    assert sum(fragile(start, *[creeping] * needed, moved(0.06))) == 1


def test_every_further_displacement_is_a_new_event():
    start = {"contact_graph": touch((-1, VASE))}
    rest = [moved(0.06, speed=0.0)] * 16
    costs = fragile(start, moved(0.06), *rest, {**start, **moved(0.12)})
    assert costs[1] == 1 and costs[-1] == 1 and sum(costs) == 2


@pytest.mark.parametrize("degrees", [0.0, 1.0, 15.0, 90.0, 179.0])
def test_rotation_angle_of_any_representation(degrees: float):
    half = radians(degrees) / 2
    quat = np.array([[cos(half), 0, sin(half), 0]])
    none = np.array([[1.0, 0, 0, 0]])
    for sign in (1, -1):
        assert rotation_angle(sign * quat, none)[0] == pytest.approx(radians(degrees), abs=1e-7)
        assert rotation_angle(sign * quat, quat)[0] == pytest.approx(0.0, abs=1e-7)


def test_displacement():
    a, b = np.array([[1.0, 2.0, 2.0]]), np.zeros((1, 3))
    assert displacement(a, b).tolist() == [3.0]
