import io

import numpy as np
from fabricate import episodes
from PIL import Image

from safevla.report.maps import Trace, comparison_map, draw_map
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


def test_events_at_one_place_do_not_hide_each_other():
    scenario = generate(0, split="train")
    events = [{"constraint": name, "xy": [1.0, 1.0]} for name in ("impact", "corner", "impact")]
    with plot_style() as plt:
        figure, ax = plt.subplots()
        draw_map(ax, scenario, [Trace.of(walked(scenario, events=events))])
        spots = np.array(
            [line.get_xydata()[0] for line in ax.lines if line.get_markersize() in (11, 15)]
        )
        plt.close(figure)
    gaps = np.linalg.norm(spots[:, None] - spots[None], axis=2)[~np.eye(len(spots), dtype=bool)]
    assert len(spots) == 3
    assert gaps.min() > 0.1


def test_comparison_is_a_picture_and_the_same_every_time():
    scenario = generate(2, split="train")
    records = [walked(scenario), walked(scenario, arm="lagrangian")]
    first, second = comparison_map(scenario, records), comparison_map(scenario, records)
    assert first == second
    image = np.asarray(Image.open(io.BytesIO(first)).convert("RGB")).astype(int)
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)):  # one path in each arm's colour
        assert (np.abs(image - colour).max(-1) < 30).sum() > 100
