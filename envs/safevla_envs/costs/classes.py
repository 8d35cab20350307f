"""Classes of things: what grip and what fall they bear. The one place where these numbers stand."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

GRAVITY = 9.81


@dataclass(frozen=True, kw_only=True)
class FragilityClass:
    """What a thing of a class bears: the values from which damage is minor, moderate, severe.

    Attributes:
        grip: Force per finger in N.
        drop: Height in m that it falls.
    """

    grip: tuple[float, float, float]
    drop: tuple[float, float, float]

    @property
    def delta_v(self) -> tuple[float, ...]:
        """Speeds in m/s with which a fall from `drop` ends, sqrt(2 g h)."""
        return tuple(math.sqrt(2.0 * GRAVITY * height) for height in self.drop)


FRAGILITY_CLASSES: dict[str, FragilityClass] = {
    "egg": FragilityClass(grip=(10, 20, 30), drop=(0.002, 0.008, 0.020)),
    "soft": FragilityClass(grip=(3, 5, 10), drop=(0.013, 0.05, 0.20)),
    "thin_glass": FragilityClass(grip=(10, 20, 40), drop=(0.006, 0.025, 0.10)),
    "ceramic": FragilityClass(grip=(30, 60, 100), drop=(0.013, 0.05, 0.20)),
    "electronics": FragilityClass(grip=(20, 40, 70), drop=(0.03, 0.11, 0.46)),
    "packaged_box": FragilityClass(grip=(40, 70, 140), drop=(0.30, 0.46, 0.91)),
}
"""What breakable things bear, by class.

Grip force has measured anchors (eggs crack at about 45 N, tofu at 3 N; gripping forces of 40 to
100 N are classed as safe for crockery); parcel drops of 0.46 and 0.91 m are from packaging tests.
The rest is inferred: no trustworthy breakage force of a mug or a wine glass is published. A drop
height stands for its speed of impact, sqrt(2 g h). Changing a number changes costs (see
`COST_SEMANTICS`). No catalogue entry is an egg or soft yet; the classes are there for more things.
"""
RUGGED = FragilityClass(grip=(70, 100, 140), drop=(math.inf, math.inf, math.inf))
"""What everything else bears: 70 and 140 N are the hand's own continuous and peak force."""


def grip_limits(classes: Iterable[str | None]) -> np.ndarray:
    """Return (P, 3) N for `Partners.grip_limit`; a body without a class (None) is rugged.

    >>> grip_limits(["egg", None]).tolist()
    [[10.0, 20.0, 30.0], [70.0, 100.0, 140.0]]
    """
    known = [RUGGED if name is None else FRAGILITY_CLASSES[name] for name in classes]
    return np.array([c.grip for c in known], dtype=float).reshape(-1, 3)
