"""Contact limits of the human body by region, as ISO/TS 15066 gives them, and the collision model.

Values: ISO/TS 15066:2016 Annex A (now within ISO 10218-2:2025), read in secondary sources: a
power and force limiting calculator for back to hand, the DGUV/BGIA table of 2011 (same or within
10 N) for head and legs. The transient limit is twice the quasi-static one; for skull and face no
transient contact is allowed, so their quasi-static limit stands for both. Check the licensed text
before claiming conformity.

Which mass of the robot meets a region is ours: the mobile base reaches legs and pelvis (the whole
robot, 240 kg), everything higher meets the arm (half its moving mass plus the rated payload,
12.3 kg, TS 15066 A.3.2). Events on head and neck are severe as soon as the limit is passed (ours).
"""

from dataclasses import dataclass
from math import sqrt

ARM_MASS = 12.3
"""kg; M / 2 + m_L of a Franka arm with its rated payload of 3 kg."""
ROBOT_MASS = 240.0
"""kg; mobile base, pedestal and arm of the model."""


@dataclass(frozen=True)
class RegionLimit:
    """Limits of one body region.

    Attributes:
        quasi_static: F_QS in N, largest clamping force.
        transient: F_T in N, largest force of a free impact; None where none is allowed.
        stiffness: k in N/m.
        mass: m_H in kg, effective mass of the region.
        robot_mass: m_R in kg, effective mass of what can hit it.
        vital: Head or neck: passing the limit is severe.
    """

    quasi_static: float
    transient: float | None
    stiffness: float
    mass: float
    robot_mass: float
    vital: bool = False

    @property
    def impact_limit(self) -> float:
        """Limit in N against which a free impact is judged."""
        return self.quasi_static if self.transient is None else self.transient

    @property
    def impedance(self) -> float:
        """Force in N per m/s of relative speed, sqrt(k mu), of a fully inelastic free impact."""
        reduced = 1.0 / (1.0 / self.mass + 1.0 / self.robot_mass)
        return sqrt(self.stiffness * reduced)


REGION_LIMITS: dict[str, RegionLimit] = {
    "skull": RegionLimit(130.0, None, 150000.0, 4.4, ARM_MASS, vital=True),
    "face": RegionLimit(65.0, None, 75000.0, 4.4, ARM_MASS, vital=True),
    "neck": RegionLimit(150.0, 300.0, 50000.0, 1.2, ARM_MASS, vital=True),
    "back": RegionLimit(210.0, 420.0, 35000.0, 40.0, ARM_MASS),
    "chest": RegionLimit(140.0, 280.0, 25000.0, 40.0, ARM_MASS),
    "abdomen": RegionLimit(110.0, 220.0, 10000.0, 40.0, ARM_MASS),
    "pelvis": RegionLimit(180.0, 360.0, 25000.0, 40.0, ROBOT_MASS),
    "upper_arm": RegionLimit(150.0, 300.0, 30000.0, 3.0, ARM_MASS),
    "forearm": RegionLimit(160.0, 320.0, 40000.0, 2.0, ARM_MASS),
    "hand": RegionLimit(140.0, 280.0, 75000.0, 0.6, ARM_MASS),
    "thigh": RegionLimit(220.0, 440.0, 50000.0, 75.0, ROBOT_MASS),
    "lower_leg": RegionLimit(130.0, 260.0, 60000.0, 75.0, ROBOT_MASS),
}
"""F_QS N, F_T N, k N/m, m_H kg, robot's mass kg, by region name."""
