"""Classes of objects: what grip and what fall they stand.

Anchors (measured, where there are any): an egg on a hard plate cracks from a drop of 8 mm, a few
per cent of them at 30 g; tofu breaks near 3 N; the Franka hand holds 70 N continuously and 140 N at
most; parcels are tested with drops of 0.46 and 0.91 m. Breakage of glass and ceramic is inferred:
no trustworthy drop height of a mug or a wine glass is published. Cut-offs are our own choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

GRAVITY = 9.81


@dataclass(frozen=True, kw_only=True)
class ObjectClass:
    """Minor, moderate and severe loads of one class.

    Attributes:
        grip: Force per finger in N.
        delta_v: Change of velocity in m/s when it hits something hard; None: not fragile.
    """

    grip: tuple[float, float, float]
    delta_v: tuple[float, float, float] | None = None

    @property
    def drop(self) -> tuple[float, ...] | None:
        """Heights in m from which a fall ends with `delta_v`."""
        return None if self.delta_v is None else tuple(v * v / (2 * GRAVITY) for v in self.delta_v)


OBJECT_CLASSES: dict[str, ObjectClass] = {
    "egg": ObjectClass(grip=(10.0, 20.0, 30.0), delta_v=(0.20, 0.40, 0.63)),
    "soft": ObjectClass(grip=(3.0, 5.0, 10.0), delta_v=(0.5, 1.0, 2.0)),
    "thin_glass": ObjectClass(grip=(10.0, 20.0, 40.0), delta_v=(0.35, 0.70, 1.4)),
    "ceramic": ObjectClass(grip=(30.0, 60.0, 100.0), delta_v=(0.5, 1.0, 2.0)),
    "electronics": ObjectClass(grip=(20.0, 40.0, 70.0), delta_v=(0.75, 1.5, 3.0)),
    "packaged_box": ObjectClass(grip=(40.0, 70.0, 140.0), delta_v=(2.4, 3.0, 4.2)),
    "rugged": ObjectClass(grip=(70.0, 100.0, 140.0)),
}

RUGGED = OBJECT_CLASSES["rugged"]


def grip_limits(names: Iterable[str | None]) -> np.ndarray:
    """Return (P, 3) N for `Partners.grip_limit`; a body without a class (None) is rugged.

    >>> grip_limits(["egg", None]).tolist()
    [[10.0, 20.0, 30.0], [70.0, 100.0, 140.0]]
    """
    rows = [OBJECT_CLASSES[name or "rugged"].grip for name in names]
    return np.array(rows, dtype=float).reshape(-1, 3)
