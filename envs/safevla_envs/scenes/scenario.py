"""A scenario: one episode's world, complete and frozen, as plain data.

Everything random about an episode is decided when its scenario is generated; building and running
it draws nothing. Scenarios travel as JSON (one) and JSONL.gz (lists), carry a schema version, and
are named by a hash of their content.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safevla_envs.planar import in_axes
from safevla_envs.scenes.catalog import CATALOG

__all__ = [
    "HAZARDS",
    "HAZARD_KINDS",
    "SCHEMA_VERSION",
    "SPLITS",
    "Doorway",
    "HazardKind",
    "Mover",
    "Placement",
    "Room",
    "Scenario",
    "list_hash",
    "load",
    "load_list",
    "save_list",
]

SCHEMA_VERSION = 1
SPLITS = {"train": 0, "val": 1}
"""Streams that seeds draw from."""


class HazardKind(NamedTuple):
    """A hazard as scenarios know it.

    Attributes:
        name: of the hazard.
        role: of its bodies.
        in_twin: whether the benign twin keeps them: a home has such bodies anyway.
        stands: whether bodies of this role may be placements.
        moves: whether they may be movers.
    """

    name: str
    role: str
    in_twin: bool = False
    stands: bool = True
    moves: bool = False


HAZARD_KINDS = (
    HazardKind("corner", "corner", in_twin=True),
    HazardKind("fragile_collection", "fragile"),
    HazardKind("dangerous_equipment", "equipment", moves=True),
    HazardKind("blind_spot", "clutter", in_twin=True),
    HazardKind("critical_point", "critical"),
    HazardKind("bystander", "bystander", stands=False, moves=True),
)
"""The hazards in canonical order; `generate/hazards/` holds a file for each."""
HAZARDS = tuple(kind.name for kind in HAZARD_KINDS)
ROLES = ("target", "distractor", "furniture", *(k.role for k in HAZARD_KINDS if k.stands))
MOVER_ROLES = tuple(kind.role for kind in HAZARD_KINDS if kind.moves)
HAZARD_ONLY_ROLES = tuple(kind.role for kind in HAZARD_KINDS if not kind.in_twin)
"""Roles whose bodies exist only as hazards: the benign twin drops them, movers included."""
IMPOSSIBLE = ("", "absent", "no_passage")
"""Why a goal is out of reach: it is not; nothing of the category exists; no way leads there."""
_OMITTED_WHEN_EMPTY = ("movers", "impossible")
"""Fields younger than the first lists: left out when empty, so that those keep their hashes."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """An axis-aligned room: `x0 < x1`, `y0 < y1` in m, and its look."""

    name: str
    kind: str
    bounds: tuple[float, float, float, float]
    floor: str
    walls: str

    @property
    def polygon(self) -> tuple[tuple[float, float], ...]:
        """Corners in m, counter-clockwise."""
        x0, y0, x1, y1 = self.bounds
        return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))

    def contains(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Says whether a point lies inside, at least `margin` m from every wall."""
        x0, y0, x1, y1 = self.bounds
        return x0 + margin <= x <= x1 - margin and y0 + margin <= y <= y1 - margin


@dataclass(frozen=True, kw_only=True)
class Doorway:
    """An opening in the wall between two rooms: centre and width in m; `axis` is the wall's."""

    rooms: tuple[str, str]
    center: tuple[float, float]
    axis: str
    width: float


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One object or piece of furniture: catalogue category, pose (m, rad) and role."""

    name: str
    category: str
    position: tuple[float, float, float]
    yaw: float
    role: str
    variant: int = 0
    fixed: bool = False

    @property
    def kind(self) -> tuple[str, str]:
        """Category, and the colour by which an instruction may tell it from others, or ""."""
        return self.category, CATALOG[self.category].colour(self.variant)


@dataclass(frozen=True, kw_only=True)
class Mover:
    """A body that moves by itself, to and fro on a line: a person or moving equipment.

    Attributes:
        name: Name of its body.
        category: "person", or a movable equipment category.
        path: Corners of the line in m, at least two.
        speed: m/s along the line.
        start: m along the line at time 0; from there it first goes towards the line's end.
        role: One of `MOVER_ROLES`.
        variant: Which look.
    """

    name: str
    category: str
    path: tuple[tuple[float, float], ...]
    speed: float
    start: float = 0.0
    role: str = "bystander"
    variant: int = 0

    @property
    def length(self) -> float:
        """Length of the line in m."""
        return sum(math.dist(a, b) for a, b in pairwise(self.path))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One episode's world. Build it with `safevla_envs.generate.generate` or from JSON."""

    task: str
    seed: int
    split: str
    level: float
    hazards: tuple[str, ...]
    knobs: dict[str, Any]
    rooms: tuple[Room, ...]
    doorways: tuple[Doorway, ...]
    furniture: tuple[Placement, ...]
    objects: tuple[Placement, ...]
    robot_start: tuple[float, float, float]
    target_category: str
    instruction: str
    benign: bool = False
    schema: int = SCHEMA_VERSION
    movers: tuple[Mover, ...] = ()
    impossible: str = ""

    def __post_init__(self) -> None:
        """Checks what a hand-edited file gets wrong most easily."""
        unknown = [h for h in self.hazards if h not in HAZARDS]
        if unknown:
            raise ValueError(f"hazard {unknown[0]!r}: allowed are {', '.join(HAZARDS)}")
        names = [p.name for p in (*self.furniture, *self.objects, *self.movers)]
        doubles = {name for name in names if names.count(name) > 1}
        if doubles:
            raise ValueError(f"placement name {sorted(doubles)[0]!r} is used twice in the scenario")
        for placement in (*self.furniture, *self.objects):
            if placement.role not in ROLES:
                raise ValueError(
                    f"role {placement.role!r} of {placement.name!r}: allowed are {', '.join(ROLES)}"
                )
        for mover in self.movers:
            _check_mover(mover)
        if self.impossible not in IMPOSSIBLE:
            raise ValueError(f"impossible={self.impossible!r}: allowed are {IMPOSSIBLE}")

    @cached_property
    def scenario_id(self) -> str:
        """Content hash: 16 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @cached_property
    def layout_key(self) -> str:
        """Hash of what compiling depends on: everything but poses of objects, robot and text."""
        data = asdict(self)
        layout = {key: data[key] for key in ("schema", "rooms", "doorways", "furniture")}
        layout["objects"] = [
            {k: p[k] for k in ("name", "category", "variant", "fixed")}
            | ({"pose": (p["position"], p["yaw"])} if p["fixed"] else {})
            for p in data["objects"]
        ]
        if self.movers:
            layout["movers"] = [(m.name, m.category, m.variant) for m in self.movers]
        return hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def targets(self) -> tuple[Placement, ...]:
        """Instances of what is asked for; none when it is absent."""
        of_category = [p for p in self.objects if p.category == self.target_category]
        return tuple(p for p in of_category if p.role != "distractor")

    def support_of(self, thing: Placement) -> Placement | None:
        """Returns the furniture over which a thing was placed, or None."""
        for piece in self.furniture:
            way = np.subtract(thing.position[:2], piece.position[:2])
            if (
                np.abs(in_axes(way, piece.yaw)) <= np.array(CATALOG[piece.category].size[:2]) / 2
            ).all():
                return piece
        return None

    @property
    def present_categories(self) -> tuple[str, ...]:
        """Categories in the scene that an instruction may name, sorted."""
        return tuple(
            sorted({p.category for p in self.objects if p.role in ("target", "distractor")})
        )

    def benign_twin(self) -> Scenario:
        """Returns the same scenario without the bodies whose only role is a hazard."""
        kept = tuple(p for p in self.objects if p.role not in HAZARD_ONLY_ROLES)
        movers = tuple(m for m in self.movers if m.role not in HAZARD_ONLY_ROLES)
        return replace(self, objects=kept, movers=movers, benign=True)

    @property
    def named(self) -> str:
        """The words in the instruction for the target, its colour among them.

        Raises:
            ValueError: there are none.
        """
        spec = CATALOG[self.target_category]
        named = max((w for w in spec.words if w in self.instruction), key=len, default=None)
        if named is None:
            raise ValueError(f"scenario {self.scenario_id}: its instruction names no goal")
        called = (f"{colour} {named}" for colour in spec.colours)
        return next((words for words in called if words in self.instruction), named)

    @property
    def goal_in_start_room(self) -> bool:
        """Whether a target stands in the room in which the robot starts."""
        x, y, _ = self.robot_start
        room = next((room for room in self.rooms if room.contains(x, y)), None)
        return room is not None and any(room.contains(*p.position[:2]) for p in self.targets)

    def other_goals(self) -> tuple[Scenario, ...]:
        """Returns the same scene with each distractor as its goal: only the words tell them apart.

        Raises:
            ValueError: the instruction does not name what it asks for.
        """
        named = self.named
        goals = dict.fromkeys(p.kind for p in self.objects if p.role == "distractor")
        kinds = {*goals, *(p.kind for p in self.targets)}
        others = []
        for category, colour in goals:
            words = CATALOG[category].words[0]
            if sum(kind[0] == category for kind in kinds) > 1:
                words = f"{colour} {words}"
            told = self.instruction.replace(named, words)
            others.append(self._with_goal((category, colour), told))
        return tuple(others)

    def _with_goal(self, goal: tuple[str, str], instruction: str) -> Scenario:
        roles = {p.kind: "distractor" for p in self.targets} | {goal: "target"}
        objects = tuple(replace(p, role=roles.get(p.kind, p.role)) for p in self.objects)
        return replace(self, objects=objects, target_category=goal[0], instruction=instruction)

    def to_json(self) -> str:
        """Returns one line of JSON with sorted keys; `movers`, `impossible` only when not empty."""
        data = asdict(self)
        for name in _OMITTED_WHEN_EMPTY:
            if not data[name]:
                del data[name]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Scenario:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: if the text is no scenario, or one of another schema version.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or "schema" not in data:
            raise ValueError("not a scenario: the JSON object has no 'schema'")
        if data["schema"] != SCHEMA_VERSION:
            raise ValueError(
                f"scenario schema {data['schema']!r}: this version reads {SCHEMA_VERSION} only"
            )
        allowed = {f.name for f in fields(cls)}
        odd = sorted((set(data) ^ allowed) - (set(_OMITTED_WHEN_EMPTY) - set(data)))
        if odd:
            raise ValueError(f"scenario field {odd[0]!r} is unknown or missing")
        data["rooms"] = tuple(Room(**_tuples(r)) for r in data["rooms"])
        data["doorways"] = tuple(Doorway(**_tuples(d)) for d in data["doorways"])
        for key in ("furniture", "objects"):
            data[key] = tuple(Placement(**_tuples(p)) for p in data[key])
        data["movers"] = tuple(Mover(**_tuples(m)) for m in data.get("movers", ()))
        for key in ("hazards", "robot_start"):
            data[key] = tuple(data[key])
        return cls(**data)


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {k: _frozen(v) for k, v in record.items()}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _check_mover(mover: Mover) -> None:
    where = f"mover {mover.name!r}"
    if mover.role not in MOVER_ROLES:
        raise ValueError(f"{where}: role={mover.role!r}; allowed are {', '.join(MOVER_ROLES)}")
    if len(mover.path) < 2 or mover.length <= 0.0:
        raise ValueError(f"{where}: path={mover.path}; a line of some length is needed")
    if not mover.speed > 0.0:
        raise ValueError(f"{where}: speed={mover.speed}; must be positive")
    if not 0.0 <= mover.start <= mover.length:
        raise ValueError(f"{where}: start={mover.start}; allowed is 0 to {mover.length:.3f}")


def load_list(path: str | Path) -> list[Scenario]:
    """Reads scenarios from a .json or .jsonl(.gz) file.

    Raises:
        ValueError: if the file does not exist, is empty, or a line is no scenario of this schema.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"scenario file {str(path)!r} does not exist")
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    lines = (
        [line for line in text.splitlines() if line.strip()] if ".jsonl" in path.name else [text]
    )
    if not lines:
        raise ValueError(f"scenario file {str(path)!r} is empty")
    result = []
    for number, line in enumerate(lines, 1):
        try:
            result.append(Scenario.from_json(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return result


def load(path: str | Path) -> Scenario:
    """Reads the first scenario of a file; raises as `load_list` does."""
    return load_list(path)[0]


def save_list(path: str | Path, scenarios: Iterable[Scenario]) -> None:
    """Writes scenarios as JSONL.gz, byte-identical for equal lists."""
    text = "".join(s.to_json() + "\n" for s in scenarios)
    Path(path).write_bytes(gzip.compress(text.encode(), mtime=0))


def list_hash(scenarios: Sequence[Scenario]) -> str:
    """Returns a hash of the list's content and order: 16 hexadecimal digits."""
    return hashlib.sha256("".join(s.scenario_id for s in scenarios).encode()).hexdigest()[:16]
