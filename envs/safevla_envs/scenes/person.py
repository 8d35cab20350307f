"""A person of capsules and spheres, 1.72 m and 75 kg, in mid-stride, rigid above its planar joints.

Body regions are bodies of their own, so that a contact sensor each tells where a touch was. Hands
belong to the forearm, the face to the skull. Faces +x.
"""

from __future__ import annotations

from typing import Any

import mujoco

__all__ = ["HEIGHT", "LOOKS", "MASS", "REGIONS", "add_person"]

HEIGHT, MASS = 1.72, 75.0
"""m, kg; between the median woman and man of DIN 33402-2 (1.63, 1.75 m)."""
REGIONS = (
    "lower_leg",
    "thigh",
    "pelvis",
    "abdomen",
    "chest",
    "upper_arm",
    "forearm",
    "neck",
    "skull",
)
LOOKS = (
    {"shirt": "f2701d", "trousers": "23305c", "hair": "2b1a12", "skin": "d9a07a"},
    {"shirt": "d11f4a", "trousers": "3b3f45", "hair": "0f0d0c", "skin": "7a4a2e"},
    {"shirt": "f0c419", "trousers": "2f4d3a", "hair": "6e4a25", "skin": "efc3a1"},
    {"shirt": "1aa7a1", "trousers": "6b4a33", "hair": "8d8d8d", "skin": "b87b50"},
)
"""Colours by `variant` (taken modulo their number): no furniture or wall has such a shirt."""
SHOES = "17181a"

_Point = tuple[float, float, float]
_PARTS: dict[str, tuple[float, tuple[tuple[str, float, _Point, _Point | None], ...]]] = {
    # region: (mass in kg, its (colour, radius, from, to) in m; without `to` a sphere)
    "lower_leg": (
        7.0,
        (
            ("trousers", 0.056, (0.11, 0.09, 0.48), (0.10, 0.09, 0.13)),
            ("trousers", 0.056, (-0.02, -0.09, 0.48), (-0.19, -0.09, 0.16)),
            ("shoes", 0.05, (0.08, 0.09, 0.06), (0.25, 0.09, 0.06)),
            ("shoes", 0.05, (-0.21, -0.09, 0.09), (-0.05, -0.09, 0.06)),
        ),
    ),
    "thigh": (
        20.0,
        (
            ("trousers", 0.08, (0.02, 0.09, 0.84), (0.11, 0.09, 0.50)),
            ("trousers", 0.08, (0.0, -0.09, 0.84), (-0.02, -0.09, 0.50)),
        ),
    ),
    "pelvis": (11.0, (("trousers", 0.12, (0.0, -0.07, 0.93), (0.0, 0.07, 0.93)),)),
    "abdomen": (10.0, (("shirt", 0.115, (0.0, -0.07, 1.08), (0.0, 0.07, 1.08)),)),
    "chest": (14.0, (("shirt", 0.135, (0.0, -0.10, 1.27), (0.0, 0.10, 1.27)),)),
    "upper_arm": (
        4.0,
        (
            ("shirt", 0.052, (0.0, 0.235, 1.37), (-0.08, 0.27, 1.12)),
            ("shirt", 0.052, (0.0, -0.235, 1.37), (0.05, -0.27, 1.12)),
        ),
    ),
    "forearm": (
        3.4,
        (
            ("skin", 0.04, (-0.08, 0.27, 1.10), (-0.04, 0.27, 0.90)),
            ("skin", 0.04, (0.05, -0.27, 1.10), (0.20, -0.26, 0.96)),
            ("skin", 0.05, (-0.02, 0.27, 0.84), None),
            ("skin", 0.05, (0.24, -0.25, 0.93), None),
        ),
    ),
    "neck": (1.2, (("skin", 0.055, (0.0, 0.0, 1.42), (0.0, 0.0, 1.50)),)),
    "skull": (
        4.4,
        (
            ("skin", 0.1, (0.012, 0.0, 1.60), None),
            ("hair", 0.103, (-0.02, 0.0, 1.617), None),
            ("skin", 0.02, (0.115, 0.0, 1.59), None),
        ),
    ),
}


def add_person(spec: mujoco.MjSpec, name: str, *, variant: int = 0) -> mujoco.MjsBody:
    """Adds the body `name` at the origin, with the region bodies `<name>/<region>` under it.

    Args:
        spec: The model to add to.
        name: Name of the body, unique in `spec`.
        variant: Which clothes, modulo the number of `LOOKS`.

    Returns:
        The body, welded to the world: joints are the caller's.
    """
    look = {**LOOKS[variant % len(LOOKS)], "shoes": SHOES}
    body = spec.worldbody.add_body(name=name)
    for region, (mass, parts) in _PARTS.items():
        part = body.add_body(name=f"{name}/{region}")
        # shares by the cylinder's volume: only the sum matters, the person is rigid
        sizes = [r**2 * (r + _length(a, b)) for _, r, a, b in parts]
        for i, ((colour, radius, start, end), size) in enumerate(zip(parts, sizes)):
            shape: dict[str, Any] = {"type": mujoco.mjtGeom.mjGEOM_SPHERE, "pos": start}
            if end is not None:
                shape = {"type": mujoco.mjtGeom.mjGEOM_CAPSULE, "fromto": [*start, *end]}
            part.add_geom(
                name=f"{name}/{region}/{i}",
                size=[radius, 0, 0],
                mass=mass * size / sum(sizes),
                rgba=_rgba(look[colour]),
                group=1,
                friction=[0.6, 0.005, 0.0001],
                **shape,
            )
    return body


def _length(a: _Point, b: _Point | None) -> float:
    return 0.0 if b is None else sum((p - q) ** 2 for p, q in zip(a, b)) ** 0.5


def _rgba(code: str) -> list[float]:
    return [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] + [1.0]
