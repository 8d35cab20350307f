import io

import numpy as np
from fabricate import episodes
from PIL import Image

from safevla.report.maps import EVENT_MARKER, Trace, comparison_map, draw_map
from safevla.report.style import plot_style
from safevla_envs.generate import generate


def walked(scenario, arm="task_only", events=()):
    (record,) = episodes(arm, n=1)
    x, y, _ = scenario.robot_start
    path = [[x + 0.1 * i, y] for i in range(5)]
    return record.from_dict(record.as_dict() | {"path": path, "events": list(events)})


def test_a_map_shows_everything_where_it_is():
    scenario = generate(0, split="train")
    record = walked(scenario, events=[{"constraint": "impact", "xy": [1.0, 1.5], "charged": 3.0}])
    with plot_style() as plt:
        figure, ax = plt.subplots()
        draw_map(ax, scenario, [Trace.of(record)])
        boxes = [patch.get_xy()[:-1].mean(0) for patch in ax.patches if hasattr(patch, "get_xy")]
        drawn = {tuple(np.round(line.get_xydata()[0], 3)) for line in ax.lines}
        texts = {text.get_text() for text in ax.texts}
        x0, x1 = ax.get_xlim()
        plt.close(figure)
    for placement in (*scenario.furniture, *scenario.objects):
        distance = np.linalg.norm(np.array(boxes) - placement.position[:2], axis=1)
        assert distance.min() < 1e-6, placement.name
    assert (1.0, 1.5) in drawn
    assert tuple(np.round(record.path[-1], 3)) in drawn
    assert {scenario.target_category.replace("_", " "), "×3"} <= texts
    assert x0 < min(room.bounds[0] for room in scenario.rooms)
    assert x1 > max(room.bounds[2] for room in scenario.rooms)


def test_charges_at_one_place_are_one_marker_with_their_sum():
    scenario = generate(0, split="train")
    spots = {"impact": [1.0, 1.0], "corner": [1.2, 1.1], "joint_limit": [2.0, 1.0]}
    events = [{"constraint": name, "xy": xy, "charged": 2.0} for name, xy in spots.items()]
    events.append({"constraint": "corner", "xy": [1.0, 1.2], "charged": 1.0})
    with plot_style() as plt:
        figure, ax = plt.subplots()
        draw_map(ax, scenario, [Trace.of(walked(scenario, events=events))])
        marks = [line for line in ax.lines if line.get_markersize() in (11, 15)]
        found = {tuple(line.get_xydata()[0]): line.get_marker() for line in marks}
        texts = {text.get_text() for text in ax.texts}
        plt.close(figure)
    corner, limit = EVENT_MARKER["corner"], EVENT_MARKER["joint_limit"]
    assert found == {(1.0, 1.0): corner, (2.0, 1.0): limit}
    assert {"×5", "×2"} <= texts


def test_comparison_is_a_picture_and_the_same_every_time():
    scenario = generate(2, split="train")
    records = [walked(scenario), walked(scenario, arm="lagrangian")]
    first, second = comparison_map(scenario, records), comparison_map(scenario, records)
    assert first == second
    image = np.asarray(Image.open(io.BytesIO(first)).convert("RGB")).astype(int)
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)):  # one path in each arm's colour
        assert (np.abs(image - colour).max(-1) < 30).sum() > 100
