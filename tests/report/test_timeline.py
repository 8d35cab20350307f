import numpy as np
import pytest
from PIL import ImageColor

from safevla.report.style import CONSTRAINT_COLOUR
from safevla.report.timeline import LEFT, REFLEX, STRIP_HEIGHT, TOP, Timeline, force_height
from safevla_envs.costs import CONSTRAINTS

WIDTH = 400
EVENTS = [
    {"constraint": "impact", "onset_time": 4.0},
    {"constraint": "corner", "onset_time": 6.0},
]


def strip(**changes):
    felt = [50.0 if 80 <= tick < 100 else 5.0 if tick >= 180 else 0.0 for tick in range(200)]
    settings = {
        "end": 10.0,
        "forces": [(tick / 20, force) for tick, force in enumerate(felt)],
        "costs": [(1.0, 0.0), (4.0, 1.0), (6.0, 2.0), (10.0, 2.0)],
        "events": EVENTS,
    }
    return Timeline(WIDTH, **settings | changes)


def is_colour(picture, colour):
    wanted = ImageColor.getrgb(colour)
    return np.abs(np.asarray(picture).astype(int) - wanted).max(-1) < 12


def test_force_scale_is_logarithmic_from_1_to_500_newton():
    assert force_height(0.0) == force_height(1.0) == force_height(float("nan")) == 0.0
    assert force_height(500.0) == force_height(1e6) == 1.0
    tenfold = force_height(100.0) - force_height(10.0)
    assert tenfold == pytest.approx(force_height(10.0) - force_height(1.0))
    assert 0.4 < force_height(REFLEX) < 0.6, "the 20 N line is in the middle"


def test_contact_stands_at_its_time_and_height():
    timeline = strip()
    dark = is_colour(timeline.full, "#22272e")[TOP : timeline.y(1.0)]
    columns = np.flatnonzero(dark.any(0))
    columns = columns[(columns > LEFT) & (columns < timeline.x(9.9))]
    assert abs(columns.min() - timeline.x(4.0)) <= 1
    assert abs(columns.max() - timeline.x(5.0)) <= 1
    tops = TOP + dark[:, timeline.x(4.5)].argmax()
    assert abs(tops - timeline.y(50.0)) <= 1
    # ticks without contact may be left out
    sparse = strip(forces=[(tick / 20, 50.0) for tick in range(80, 100)])
    assert (
        np.asarray(sparse.full.crop((0, 0, timeline.x(8.9), STRIP_HEIGHT)))
        == np.asarray(timeline.full.crop((0, 0, timeline.x(8.9), STRIP_HEIGHT)))
    ).all()
    # a touch below the reflex is light, not dark
    assert is_colour(timeline.full, "#b9c0c9")[timeline.y(2.0), timeline.x(9.5)]


def test_onsets_are_marked_in_the_colour_of_their_constraint():
    timeline = strip()
    for event in EVENTS:
        marks = is_colour(timeline.full, CONSTRAINT_COLOUR[event["constraint"]])[TOP - 8 : TOP - 3]
        columns = np.flatnonzero(marks.any(0))
        assert abs(columns.mean() - timeline.x(event["onset_time"])) <= 1
    assert not is_colour(strip(events=[]).full, CONSTRAINT_COLOUR["corner"]).any()


def test_the_cursor_parts_what_was_from_what_will_be():
    timeline = strip()
    before, after = (np.asarray(timeline.at(t)) for t in (2.0, 8.0))
    assert before.shape == (STRIP_HEIGHT, WIDTH, 3)
    x = timeline.x(4.5)
    row = timeline.y(10.0)
    assert before[row, x].min() > 100 > after[row, x].max(), "faint ahead, full behind"
    for picture, time in ((before, 2.0), (after, 8.0)):
        cursor = is_colour(picture, "#22272e")[TOP - 6 : TOP + 20, timeline.x(time)]
        assert cursor.all()


def test_an_episode_without_contact_or_cost_is_drawn():
    timeline = strip(forces=[], costs=[], events=[])
    assert timeline.at(0.0).size == timeline.at(99.0).size == (WIDTH, STRIP_HEIGHT)
    assert not is_colour(timeline.full, "#c81e1e").any()


def test_every_constraint_has_its_own_colour():
    colours = [CONSTRAINT_COLOUR[constraint.name] for constraint in CONSTRAINTS]
    for i, a in enumerate(colours):
        for b in colours[:i]:
            apart = np.subtract(ImageColor.getrgb(a), ImageColor.getrgb(b))
            assert np.abs(apart).max() > 24, (a, b)


def test_the_names_of_all_constraints_fit_over_a_video():
    events = [{"constraint": c.name, "onset_time": 1.0} for c in CONSTRAINTS]
    wide = Timeline(840, end=10.0, forces=[], costs=[], events=events)
    legend = np.asarray(wide.full)[: TOP - 9].min(-1) < 200
    columns = np.flatnonzero(legend.any(0))
    assert columns.min() >= LEFT and columns.max() < 838
    last = is_colour(wide.full.crop((0, 0, 840, TOP - 9)), CONSTRAINT_COLOUR["grip_overload"])
    assert last.any()
