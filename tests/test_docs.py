import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
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


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("view.base_distance < radius", "view.base_distance > radius"),
        ('startswith("wet_floor")', 'startswith("suitcase")'),
        ("CUTOFFS = 0.8, (0.8, 0.6, 0.4)", "CUTOFFS = 0.8, (0.8, 0.3, 0.2)"),
    ],
)
def test_the_fixture_of_the_page_catches_a_broken_term(workspace, right, wrong):
    path = workspace / "wet_floor.py"
    code = path.read_text()
    assert code.count(right) == 1
    path.write_text(code.replace(right, wrong))
    done = page_tests(workspace)
    assert done.returncode == 1 and "AssertionError" in done.stdout, done.stdout
