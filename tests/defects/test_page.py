"""docs/defects.md and this folder name the same tests."""

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "defects.md"


def existing() -> set[str]:
    names = set()
    for path in FOLDER.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names.add(f"{path.name}::{node.name}")
    return names


def named() -> list[str]:
    return re.findall(r"`(test_\w+\.py::\w+)`", PAGE.read_text())


def test_every_test_on_the_page_exists():
    assert sorted(set(named()) - existing()) == []


def test_every_defect_test_is_on_the_page():
    own = {name for name in existing() if name.startswith("test_page.py")}
    assert sorted(existing() - own - set(named())) == []


def test_every_defect_on_the_page_names_a_test():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 60
    for row in rows:
        if not row.startswith("| defect"):
            assert re.search(r"::test_", row), row
