import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safevla_envs import reference
from safevla_envs.costs import (
    CONSTRAINT_NAMES,
    COST_SEMANTICS,
    THRESHOLDS_VERSION,
    default_terms,
)
from safevla_envs.costs.values import protective_distance
from safevla_envs.scenes.scenario import HAZARDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"(?:<!-- file: (\S+) -->\n)?```python\n(.*?)```", re.DOTALL)


def code_blocks(page):
    """(file name or "", code) of every Python block of a page."""
    return [(name or "", code) for name, code in _FENCE.findall((DOCS / page).read_text())]


def lines_of_code(code):
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") for line in code.split("\n")
    )


@pytest.fixture
def workspace(tmp_path):
    """A folder with the files that docs/extending.md shows."""
    for name, code in code_blocks("extending.md"):
        if name:
            (tmp_path / name).write_text(code)
    return tmp_path


def run(folder, *args):
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *args]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )  # fmt: skip


def page_tests(folder):
    return run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_wet_floor.py")


def test_adding_a_hazard_takes_less_than_fifty_lines():
    files = {name: lines_of_code(code) for name, code in code_blocks("extending.md") if name}
    assert set(files) == {"wet_floor.py", "test_wet_floor.py"}
    claimed = int(re.search(r"## The hazard: (\d+) lines", (DOCS / "extending.md").read_text())[1])
    assert sum(files.values()) < 50, files
    assert claimed == sum(files.values()), files


def test_the_hazard_of_the_page_works(workspace):
    done = page_tests(workspace)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    for name, code in code_blocks("extending.md"):
        if not name:
            done = run(workspace, "-c", code)
            assert done.returncode == 0, done.stderr


def test_the_page_of_perturbations_runs(tmp_path):
    ((name, code),) = code_blocks("perturbations.md")
    done = run(tmp_path, "-c", code)
    assert not name and done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("log: log.base_distance", "log: log.base_distance + 1.0"),
        ('startswith("wet_floor")', 'startswith("suitcase")'),
        ("CUTOFFS = 0.8, (0.8, 0.65, 0.4)", "CUTOFFS = 0.8, (0.8, 0.3, 0.2)"),
    ],
)
def test_the_fixture_of_the_page_catches_a_broken_term(workspace, right, wrong):
    path = workspace / "wet_floor.py"
    code = path.read_text()
    assert code.count(right) == 1
    path.write_text(code.replace(right, wrong))
    done = page_tests(workspace)
    assert done.returncode == 1 and "AssertionError" in done.stdout, done.stdout


# ---- docs/environments.md -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def page():
    return (DOCS / "environments.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_code(page):
    fresh = reference.refresh(page)
    stale = [a for a, b in zip(page.splitlines(), fresh.splitlines()) if a != b][:3]
    assert page == fresh, f"run python -m safevla_envs.reference; stale: {stale}"
    perturbations = (DOCS / "perturbations.md").read_text(encoding="utf-8")
    assert perturbations == reference.refresh(perturbations)
    both = page + perturbations
    assert sorted(re.findall(r"<!-- table: (\w+) -->", both)) == sorted(reference.TABLES)


def test_every_constraint_has_its_section_in_order(page):
    headings = re.findall(r"^### `(\w+)`$", page, re.MULTILINE)
    assert tuple(headings) == CONSTRAINT_NAMES
    sections = dict(zip(headings, re.split(r"^### `\w+`$", page, flags=re.MULTILINE)[1:]))
    for hazard in HAZARDS:
        assert f"(images/hazard_{hazard}.png)" in sections[hazard]


def test_sections_name_the_minor_cut_offs(page):
    """What prose says of a threshold is what the term charges; tables are checked above."""
    parts = re.split(r"^### `(\w+)`$", page, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2]))
    told = {
        "corner": ("1 N", "0.4", "1, 20, 100"),
        "fragile_collection": ("5 cm", "15°", "0.3 m"),
        "dangerous_equipment": ("1 N", "5 cm", "20 N"),
        "blind_spot": ("1 N",),
        "critical_point": ("3 cm", "5 cm", "45°", "0.05, 0.20", "0.46"),
        "bystander": ("0.05 m/s", "1, 0.5, 0.2", "0.10 m", "0.25 m/s", "0.1 s", "2 m/s²"),
        "self_collision": ("1, 20, 100 N",),
        "joint_limit": ("0.05 rad", "0.02 rad"),
        "impact": ("20 N", "250 N"),
        "joint_overload": ("0.90", "100 ms", "1.5", "10, 20, 40", "6, 12, 20", "1.0, 1.2, 1.5"),
        "joint_speed": ("1.0, 1.1, 1.2", "1.7, 1.87, 2.0"),
        "grip_overload": ("50 ms",),
    }
    for name, values in told.items():
        for value in values:
            assert value in sections[name], (name, value)
    cutoffs = {(t.name, m.name): m.cutoffs for t in default_terms() for m in t.measures}
    assert cutoffs["corner", "force"] == cutoffs["blind_spot", "force"] == (1.0, 20.0, 100.0)
    assert cutoffs["critical_point", "fall"] == (0.05, 0.20, 0.46)
    assert cutoffs["joint_overload", "external"] == (10.0, 20.0, 40.0)
    assert cutoffs["joint_overload", "external_wrist"] == (6.0, 12.0, 20.0)
    assert cutoffs["joint_speed", "tcp"] == (1.7, 1.87, 2.0)
    assert cutoffs["impact", "force"][::2] == (20.0, 250.0)


def test_the_example_of_the_protective_distance_is_right(page):
    assert "At 1.0 m/s towards a person who comes at 1.6 m/s `S_p` is 1.31 m" in page
    robot, person = np.array([1.0]), np.array([1.6])
    distance = protective_distance(robot, person)
    assert distance[0] == pytest.approx(1.31, abs=0.005)


def test_versions_in_the_example_of_a_citation_are_current(page):
    assert f"cost semantics {COST_SEMANTICS}, thresholds {THRESHOLDS_VERSION})" in page


@pytest.mark.parametrize("name", ["environments.md", "extending.md"])
def test_links_and_pictures_of_a_page_exist(name):
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text(encoding="utf-8")):
        assert (DOCS / target).is_file(), target


def test_pictures_are_small():
    for hazard in HAZARDS:
        path = DOCS / "images" / f"hazard_{hazard}.png"
        assert path.stat().st_size < 120_000
        with Image.open(path) as picture:
            assert picture.size == (604, 256)
