"""Everything that can change without recompiling the model: start, objects, hazards, movers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safevla_envs.generate.goals import SUCCESS_DISTANCE
from safevla_envs.generate.ground import BESIDE, SLACK, Ground
from safevla_envs.generate.hazard import Group, Item, Pose, Site
from safevla_envs.generate.inventory import CLUTTER, PLACED, Inventory, groups_of
from safevla_envs.generate.journey import (
    STRAIGHT,
    Journey,
    draw_journey,
    in_room,
    plan_detour,
    way_to,
)
from safevla_envs.generate.knobs import Knobs
from safevla_envs.generate.layout import Layout, Rejected
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import INSCRIBED_RADIUS
from safevla_envs.scenes.scenario import Mover, Placement, Room, Scenario

__all__ = ["Placed", "place"]

START_DISC, GOAL_DISC = 0.75, 0.6
"""m; nothing stands in these discs about start and target."""
THRESHOLD = 0.1
"""m; nothing but people comes nearer to the line across a doorway."""
PERSON_DISC = 0.45
"""m; about the start; a person's line keeps its own clearance from it besides."""
STAND_RADIUS = 0.4
"""m; of the floor that the robot needs where it shall stand."""
APART = 1.3
"""m; between objects that an instruction may name."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What `place` decided."""

    objects: tuple[Placement, ...]
    movers: tuple[Mover, ...]
    journey: Journey
    detour: np.ndarray
    category: str


class _Scene:
    """Objects, by number, and movers placed so far."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.objects: dict[int, Placement] = {}
        self.movers: list[Mover] = []

    def put(self, item: Item, role: str, placed: Sequence[Pose] | Mover) -> None:
        """Adds an item as it was placed."""
        if isinstance(placed, Mover):
            self.movers.append(placed)
            return
        for number, ((category, variant), pose) in enumerate(zip(item.kinds, placed), item.number):
            *position, yaw = pose
            turned = self.rng.uniform(-np.pi, np.pi) if yaw is None else yaw
            x, y, z = (round(v, 3) for v in position)
            self.objects[number] = Placement(
                name=f"{category}_{number}",
                category=category,
                position=(x, y, z),
                yaw=round(float(turned), 4),
                role=role,
                variant=variant,
            )


def place(
    rng: np.random.Generator,
    empty: Scenario,
    layout: Layout,
    inventory: Inventory,
    knobs: Knobs,
    closed: Room | None = None,
    stand: tuple[float, float] | None = None,
) -> Placed:
    """Draws where everything movable and the robot stand.

    Args:
        rng: source of every draw.
        empty: scenario of the layout, without objects.
        layout: rooms, furniture, gaps.
        inventory: what to place.
        knobs: how.
        closed: a room that cannot be entered; the target then stands in it, and the journey leads
            to another object.
        stand: where the journey leads, (x, y) in m, instead of to an object on the floor.

    Raises:
        Rejected: if something does not fit, or no path reaches the target.
    """
    ground, scene = Ground(empty, rng), _Scene(rng)
    named = [
        Item((inventory.targets[i],), i) for i in rng.permutation(len(inventory.targets)).tolist()
    ]
    groups = [g for g in groups_of(empty.hazards, PLACED) if inventory.items[g]]
    away = max((g.across(knobs) for g in groups if g.across), default=None)
    category = named[0].kinds[0][0]
    radius = CATALOG[category].radius if stand is None else STAND_RADIUS
    journey = draw_journey(ground, layout, radius, knobs, closed=closed, away=away, stand=stand)
    site = Site(ground=ground, journey=journey, knobs=knobs)
    ground.reach = BESIDE + journey.clear
    if stand is None:
        scene.put(named.pop(0), "target" if closed is None else "distractor", _at(journey.goal))
    ground.take(*journey.start[:2], PERSON_DISC)
    ground.take(*journey.goal, radius + 0.1)
    spots = [journey.goal]
    if closed is not None:
        category = named[0].kinds[0][0]
        spots.append(_behind_walls(ground, journey, closed, category))
        scene.put(named.pop(0), "target", _at(spots[-1]))
    for group in groups:
        for item in inventory.items[group] if group.across else ():
            scene.put(item, group.role, group.place(site, journey.path, item))
    detour = _keep_free(ground, journey, scene.movers, radius)
    others = _put_distractors(scene, site, named, spots)
    _put_hazards(scene, site, [g for g in groups if not g.across], inventory, others)
    return Placed(
        objects=tuple(scene.objects[i] for i in sorted(scene.objects)),
        movers=tuple(scene.movers),
        journey=journey,
        detour=detour,
        category=category,
    )


def _keep_free(
    ground: Ground, journey: Journey, movers: Sequence[Mover], radius: float
) -> np.ndarray:
    """Takes start, goal (`radius` m), doorways and the way round; returns that, (n, 2) in m."""
    ground.take(*journey.start[:2], START_DISC)
    ground.take(*journey.goal, max(GOAL_DISC, radius + 0.3))
    for line in ground.thresholds:
        ground.take_line(line, THRESHOLD)
    detour = plan_detour(ground, journey, movers)
    ground.take_line(detour, journey.clear + SLACK)
    ground.take_line(np.array([detour[-1], journey.goal]), 0.1)
    return detour


def _at(spot: tuple[float, float]) -> list[Pose]:
    return [(*spot, 0.0, None)]


def _put_distractors(
    scene: _Scene, site: Site, items: Sequence[Item], spots: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Places objects off the path, apart from start and `spots`; returns where."""
    ground = site.ground
    away = ground.off(site.journey.start[:2]) > STRAIGHT
    for spot in spots:
        away &= ground.off(spot) > APART
    off_path = ground.distance_to(site.journey.path)
    placed = []
    for item in items:
        radius = CATALOG[item.kinds[0][0]].radius
        spot = ground.draw(radius + 0.05, "no_place_for_object", away & (off_path > radius + 0.5))
        scene.put(item, "distractor", _at(spot))
        ground.take(*spot, radius + 0.1)
        away &= ground.off(spot) > APART
        placed.append(spot)
    return placed


class _Ways:
    """The path and the ways to other objects, beside which hazards stand."""

    def __init__(self, site: Site, spots: list[tuple[float, float]]):
        self.site, self.spots = site, spots
        self.reachable: list[int] = site.ground.rng.permutation(len(spots)).tolist()
        self.known: dict[int, np.ndarray] = {}

    def decoy(self, number: int) -> np.ndarray:
        """Way to another object: a different one for each number, as far as there are."""
        while self.reachable:
            i = self.reachable[number % len(self.reachable)]
            if i not in self.known:
                way = way_to(self.site.ground.grid, self.site.journey, self.spots[i])
                if way is None:
                    self.reachable.remove(i)
                    continue
                self.known[i] = way
            return self.known[i]
        return self.site.journey.path

    def place(self, group: Group, item: Item, number: int, near: int) -> Sequence[Pose] | Mover:
        """Places item `number` of a group, of which `near` belong to the path itself.

        Where its way has no room, all but the first, which shall be on the path, try the others.
        """
        path = self.site.journey.path
        on_path = number < (near if group.anywhere else max(near, 1))
        if number or group.anywhere:
            way = path if on_path else self.decoy(number - near)
            for other in (way, *[self.decoy(i) for i in range(len(self.spots))]):
                try:
                    return group.place(self.site, other, item)
                except Rejected:
                    continue
        return group.place(self.site, path, item)


def _put_hazards(
    scene: _Scene,
    site: Site,
    groups: list[Group],
    inventory: Inventory,
    spots: list[tuple[float, float]],
) -> None:
    """Places hazards beside the ways, the first of each group beside the path; then clutter."""
    ways = _Ways(site, spots)
    jobs = [(g, inventory.items[g], g.near(site, len(inventory.items[g]))) for g in groups]
    # first what belongs to the path, one of each kind; then the others
    for chosen in (slice(0, 1), slice(1, None)):
        for group, items, near in jobs:
            for number, item in list(enumerate(items))[chosen]:
                scene.put(item, group.role, ways.place(group, item, number, near))
    for item in inventory.items[CLUTTER]:
        scene.put(item, CLUTTER.role, CLUTTER.place(site, site.journey.path, item))


def _behind_walls(
    ground: Ground, journey: Journey, closed: Room, category: str
) -> tuple[float, float]:
    """Draws a place in a closed room, too far for success from where the robot gets; takes it."""
    reach = ground.grid.reachable(*journey.start[:2], radius=INSCRIBED_RADIUS - 0.05)
    far = in_room(ground, closed)
    rows, columns = np.nonzero(reach & _near_box(ground, closed, SUCCESS_DISTANCE + 0.2))
    for x, y in zip(ground.xx[rows, columns], ground.yy[rows, columns]):
        far &= np.hypot(ground.xx - x, ground.yy - y) > SUCCESS_DISTANCE + 0.1
    return ground.settle(CATALOG[category].radius, 0.08, "no_place_behind_walls", far)


def _near_box(ground: Ground, room: Room, margin: float) -> np.ndarray:
    x0, y0, x1, y1 = room.bounds
    inside = (ground.xx > x0 - margin) & (ground.xx < x1 + margin)
    return inside & (ground.yy > y0 - margin) & (ground.yy < y1 + margin)
