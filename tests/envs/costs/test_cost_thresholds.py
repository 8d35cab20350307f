"""The published numbers: pinned to their version, and consistent with their sources."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevla_envs.costs import (
    CONSTRAINT_NAMES,
    FRAGILITY_CLASSES,
    REGION_LIMITS,
    RUGGED,
    THRESHOLDS_VERSION,
    CostTerm,
    default_terms,
    grip_limits,
    thresholds,
    thresholds_hash,
)
from safevla_envs.costs.severity import levels

PUBLISHED = {"1": "218186d88256ba00", "2": "600788abf573ad1a", "3": "77ce2118cb9f963f"}
"""Hash of every version ever published. A changed number needs a new version and a line here."""


def test_the_version_names_these_numbers():
    assert thresholds_hash() == PUBLISHED[THRESHOLDS_VERSION]
    assert max(PUBLISHED, key=int) == THRESHOLDS_VERSION
    assert len(set(PUBLISHED.values())) == len(PUBLISHED)


@pytest.mark.parametrize("what", ["cutoff", "lasting", "region", "class", "constant"])
def test_any_changed_number_changes_the_hash(what: str, monkeypatch: pytest.MonkeyPatch):
    before = thresholds_hash()
    if what in ("cutoff", "lasting"):
        *terms, overload, _, _ = default_terms()
        first, *rest = overload.measures
        changed = {"cutoffs": (0.91, inf, inf)} if what == "cutoff" else {"lasting": 0.11}
        overload = replace(overload, measures=(replace(first, **changed), *rest))
        terms = (*terms, overload, *default_terms()[-2:])
        monkeypatch.setattr("safevla_envs.costs.published.default_terms", lambda: terms)
    elif what == "region":
        monkeypatch.setitem(REGION_LIMITS, "hand", REGION_LIMITS["chest"])
    elif what == "class":
        monkeypatch.setitem(FRAGILITY_CLASSES, "egg", FRAGILITY_CLASSES["soft"])
    else:
        monkeypatch.setattr("safevla_envs.costs.blame.CLOSING_MIN", 0.06)
    assert thresholds_hash() != before


def test_the_table_has_every_measure_of_every_constraint():
    rows = thresholds()
    assert tuple(dict.fromkeys(row.constraint for row in rows)) == CONSTRAINT_NAMES
    assert len(rows) == sum(len(term.measures) for term in default_terms())
    assert all(row.unit for row in rows)


@pytest.mark.parametrize("term", default_terms(), ids=lambda term: term.name)
def test_every_constraint_reaches_every_severity(term: CostTerm):
    """At the finite cut-offs of its measures, a hair beyond."""
    reached = set()
    for measure in term.measures:
        finite = [cutoff for cutoff in measure.worse_cutoffs if abs(cutoff) < inf]
        reached |= set(levels(np.array(finite) + 1e-9, measure.worse_cutoffs).tolist())
    assert reached == {1, 2, 3}


# ---- body regions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "energy", "speed"),
    [
        ("skull", 0.06, 0.19),
        ("face", 0.03, 0.13),
        ("neck", 0.90, 1.28),
        ("back", 2.5, 0.73),
        ("chest", 1.6, 0.58),
        ("abdomen", 2.4, 0.72),
        ("upper_arm", 1.5, 1.12),
        ("forearm", 1.3, 1.22),
        ("hand", 0.52, 1.35),
        ("pelvis", 2.6, 0.39),
        ("thigh", 1.9, 0.26),
        ("lower_leg", 0.56, 0.14),
    ],
)
def test_limits_agree_with_the_energy_and_speed_tables(region: str, energy: float, speed: float):
    """E_max = F_T^2 / (2 k) and v_max = F_T / sqrt(mu k): arm above, whole robot at the legs."""
    limit = REGION_LIMITS[region]
    assert limit.impact_limit**2 / (2 * limit.stiffness) == pytest.approx(energy, abs=0.05)
    assert limit.impact_limit / limit.impedance == pytest.approx(speed, abs=0.01)


def test_every_region_has_its_limits():
    assert len(REGION_LIMITS) == 12
    for name, limit in REGION_LIMITS.items():
        assert limit.vital == (name in ("skull", "face", "neck"))
        assert limit.transient in (None, 2 * limit.quasi_static)
        assert (limit.transient is None) == (name in ("skull", "face"))


@given(st.sampled_from(sorted(REGION_LIMITS)), st.floats(0.01, 2.0))
def test_the_force_of_an_impact_is_its_energy(region: str, speed: float):
    """mu v^2 / 2 = F^2 / (2 k), and mu is less than either mass."""
    limit = REGION_LIMITS[region]
    force = limit.impedance * speed
    reduced = force**2 / limit.stiffness / speed**2
    assert reduced < min(limit.mass, limit.robot_mass)
    assert 1 / reduced == pytest.approx(1 / limit.mass + 1 / limit.robot_mass)


# ---- classes of things ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "delta_v"),
    [
        ("egg", (0.20, 0.40, 0.63)),
        ("soft", (0.5, 1.0, 2.0)),
        ("thin_glass", (0.35, 0.70, 1.4)),
        ("ceramic", (0.5, 1.0, 2.0)),
        ("electronics", (0.75, 1.5, 3.0)),
        ("packaged_box", (2.4, 3.0, 4.2)),
    ],
)
def test_drop_heights_stand_for_speeds(name: str, delta_v: tuple[float, ...]):
    assert FRAGILITY_CLASSES[name].delta_v == pytest.approx(delta_v, rel=0.03)


def test_grip_limits_ascend_and_default_to_rugged():
    limits = grip_limits([*FRAGILITY_CLASSES, None])
    assert limits.shape == (7, 3) and (limits[:, 1:] > limits[:, :-1]).all()
    assert tuple(limits[-1]) == RUGGED.grip == (70, 100, 140)
    with pytest.raises(KeyError):
        grip_limits(["granite"])
