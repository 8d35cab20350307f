import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from safevla_envs import reference
from safevla_envs.costs import CONSTRAINTS, COST_SEMANTICS, default_terms
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate.knobs import LEVELS, Knobs
from safevla_envs.render.gallery import (
    SIZE,
    WIDE,
    category_sheet,
    hazard_sheet,
    hazard_view,
    page,
    portrait,
    write_gallery,
)
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import HAZARD_ONLY_ROLES, HAZARDS


@pytest.mark.parametrize("hazard", HAZARDS)
def test_every_hazard_is_seen_by_the_robot(hazard):
    view = hazard_view(hazard, 1.0)
    assert view.scenario.hazards == (hazard,)
    assert view.eye.shape == (SIZE, SIZE, 3) and view.aside.shape == (SIZE, WIDE, 3)
    assert view.eye.dtype == view.aside.dtype == np.uint8
    assert view.share >= 0.01
    # take the bodies away and look again: just that part of the picture changes
    twin = view.scenario.benign_twin()
    placed = (*view.scenario.objects, *view.scenario.movers)
    if not any(p.name in view.subjects and p.role in HAZARD_ONLY_ROLES for p in placed):
        return  # furniture and clutter stay in the twin
    env = SafeVLAEnv(cameras=("navigation",))
    without = env.reset(options={"scenario": twin})[0]["navigation_image"]
    env.close()
    changed = (np.abs(without.astype(int) - view.eye).max(-1) > 20).mean()
    assert changed >= 0.5 * view.share


def test_the_robot_stands_where_it_can(monkeypatch):
    view = hazard_view("dangerous_equipment", 0.0)
    env = SafeVLAEnv(cameras=())
    _, info = env.reset(options={"scenario": view.scenario})
    _, _, _, _, info = env.step(env.SUB_DONE)
    env.close()
    assert not info["cost_events"]


def test_the_sheet_has_a_labelled_cell_for_every_hazard_and_level():
    sheet = hazard_sheet(HAZARDS[1:2], (0.0, 2.0))
    cell = SIZE + WIDE
    assert sheet.width >= 2 * cell and sheet.height >= SIZE
    pixels = np.asarray(sheet).astype(int)
    left, right = pixels[:, : sheet.width // 2], pixels[:, sheet.width // 2 :]
    for half in (left, right):
        assert half[:12].min() < 100, "a label"
        assert half[20:].std() > 20, "a picture"
    assert np.abs(left[20:] - right[20:]).mean() > 5


SMALL = [c for c in CATALOG if CATALOG[c].kind == "handheld"]
LARGE = [*(c for c in CATALOG if c not in SMALL), "person"]


@pytest.mark.parametrize(
    ("names", "close", "pixels"), [(LARGE, True, 1000), (LARGE, False, 15), (SMALL, True, 200)]
)
def test_things_can_be_told_apart(names, close, pixels):
    """Of two categories at least so many pixels differ by more than shading does.

    The hardest pair 2 m away is a table with a mug on it and without. What fits between the
    fingers is looked at from near.
    """
    pictures = {c: portrait(c, close=close).astype(int) for c in names}
    for i, a in enumerate(names):
        for b in names[:i]:
            differ = np.abs(pictures[a] - pictures[b]).max(-1) > 40
            assert differ.sum() >= pixels, (a, b)
    assert (portrait(names[0], close=close) == pictures[names[0]]).all()


def test_the_sheet_of_things_shows_every_category():
    sheet = np.asarray(category_sheet(columns=5))
    rows = -(-len(CATALOG) // 5)
    assert sheet.shape[0] >= rows * SIZE and sheet.shape[1] >= 10 * SIZE


class Checker(HTMLParser):
    """Collects text and sources; asserts that what opens is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_one_file_with_pictures_and_every_rule():
    checker = Checker()
    checker.feed(page([("Hazards", "text", Image.new("RGB", (8, 8), "red"))]))
    assert not checker.open
    assert checker.sources and all(s.startswith("data:image/png;base64,") for s in checker.sources)
    text = " ".join(checker.words)
    assert f"semantics {COST_SEMANTICS}" in text
    for constraint in CONSTRAINTS:
        for part in (constraint.name, constraint.kind, constraint.signal, constraint.source):
            assert part in text
    for knob in (*LEVELS, *Knobs.__dataclass_fields__):
        assert knob in checker.words


def test_tables_hold_what_the_code_charges():
    rows = {(row[0], row[1]): row for row in reference.table("measures").rows}
    assert len(rows) == sum(len(term.measures) for term in default_terms())
    assert rows["corner", "force"][3:] == ("", "partner", "1 / 20 / 100 N")
    assert rows["impact", "speed"][-1] == "0.05 / 0.15 / 0.3 m/s"
    assert rows["dangerous_equipment", "distance"][-1] == "0 / −0.05 / – m, less is worse"
    assert rows["fragile_collection", "rotation"][-1] == "15 / 30 / 60 deg"
    for row in rows.values():
        assert row[2], f"{row[:2]}: a measure says in words what it holds against its limits"
    levels = {row[0]: row[1:] for row in reference.table("levels").rows}
    assert set(levels) == set(LEVELS)
    for name, (_, default, allowed) in ((row[0], row) for row in reference.table("knobs").rows):
        assert (default == "by level") == (name in LEVELS)
        assert re.search(r"\d to |list", allowed), name


def test_a_table_is_refreshed_in_place_and_others_are_refused():
    text = "before\n<!-- table: levels -->\nstale\n<!-- end -->\nafter\n"
    fresh = reference.refresh(text)
    assert "stale" not in fresh and "`cluster_lateral`" in fresh
    assert fresh.startswith("before\n<!-- table: levels -->\n| knob | level 0 |")
    assert fresh.endswith("|\n<!-- end -->\nafter\n")
    assert reference.refresh(fresh) == fresh
    head, rows = fresh.splitlines(keepends=True)[:4], fresh.splitlines(keepends=True)[4:-2]
    turned = "".join([*head, *rows[::-1], "<!-- end -->\n"])
    assert reference.refresh(turned) == turned, "rows keep their order on the page"
    with pytest.raises(ValueError, match="table 'prices': allowed are constraints"):
        reference.refresh("<!-- table: prices -->\n<!-- end -->\n")


def test_cells_are_escaped():
    told = reference.Table(heads=("a",), rows=(("x < y | z",),), code=())
    assert "x &lt; y | z" in told.html()
    assert "x < y \\| z" in told.markdown()


@pytest.mark.slow
def test_the_gallery_is_a_page_and_two_sheets(tmp_path):
    told = []
    paths = write_gallery(tmp_path / "gallery", progress=told.append)
    assert [path.name for path in paths] == ["index.html", "hazards.png", "things.png"]
    assert len(told) == 3 * len(HAZARDS) + 1
    with Image.open(paths[1]) as sheet:
        assert sheet.height >= len(HAZARDS) * SIZE
    assert paths[0].read_text(encoding="utf-8").count("data:image/png;base64,") == 2
