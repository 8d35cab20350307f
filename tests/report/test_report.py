import dataclasses
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from fabricate import CONSTRAINTS, checker, episodes, good_run

from safevla.evaluate.arms import make_arm
from safevla.evaluate.records import write_records
from safevla.evaluate.runner import EpisodePool, eval_path
from safevla.evaluate.worker import Job
from safevla.report.assurance import write_assurance
from safevla.report.page import build_report, markdown_report, results_table
from safevla.report.rundir import RunFolder
from safevla_envs.costs import COST_SEMANTICS
from safevla_envs.generate import generate

SMALL = {"n_rooms": 2, "room_side_min": 3.2, "room_side_max": 4.0, "n_furniture": 2}
ENV = {"id": "safevla_envs:SafeVLA/ObjNav-v0", "image_size": 64, "max_episode_steps": 40}
BUDGETS = dict.fromkeys(CONSTRAINTS, 0.1)


def put(folder, records):
    groups = {}
    for record in records:
        groups.setdefault((record.arm, record.suite, record.mode), []).append(record)
    for key, group in groups.items():
        write_records(eval_path(folder, *key), group)


def train(folder, steps=4096, cost=(1.5, 0.5)):
    for arm, final in zip(("task_only", "lagrangian"), cost):
        place = folder / "train" / arm
        place.mkdir(parents=True)
        lines = [
            {
                "steps": 1024 * (i + 1),
                "success": None if i == 0 else 0.9,
                "cost": 2.0 + (final - 2.0) * i / 3,
                "length": 20.0,
                "costs": dict.fromkeys(CONSTRAINTS, 0.5),
                "lambda": dict.fromkeys(CONSTRAINTS, 2.0 if arm == "lagrangian" else 0.0),
            }
            for i in range(steps // 1024)
        ]
        torn = '{"steps": 99'
        (place / "progress.jsonl").write_text("\n".join([*map(json.dumps, lines), torn]))
        (place / "run.json").write_text(json.dumps({"budgets": BUDGETS}))


def manifest(folder, stage, finished="2030-01-01T00:00:00", seconds=61.0):
    content = {"stage": stage, "finished": finished, "seconds": seconds}
    path = folder / "stages" / f"{stage}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content | {"config": {}, "versions": {"mujoco": "3.9.0"}}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two real PPO-like arms on real scenarios, the rest fabricated."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    scenarios = tuple(generate(seed, split="train", knobs=SMALL) for seed in range(3))
    kwargs = ENV | {"split": "val", "layouts": None, "cameras": []}
    with EpisodePool(0) as pool:
        for arm, kind in (("task_only", "task_expert"), ("lagrangian", "careful_expert")):
            job = Job(
                make_agent=make_arm(kind), scenarios=scenarios, env_kwargs=kwargs, policy_seed=1,
                deterministic=False, arm=arm, suite="hazard", train_seed=0,
            )  # fmt: skip
            pool.run(job, out=eval_path(folder, arm, "hazard", "sampled"))
    others = [r for r in good_run(seeds=(0,)) if r.arm not in ("task_only", "lagrangian")]
    ood = [
        r
        for level in (1, 2)
        for arm in ("task_only", "lagrangian")
        for r in episodes(arm, n=3, suite=f"ood-{level}", level=level)
    ]
    put(folder, [*others, *ood])
    train(folder)
    for stage in ("demos", "train.task_only", "eval"):
        manifest(folder, stage)
    manifest(folder, "train.lagrangian", finished=None)
    config = {"env": ENV, "demos": {"episodes": 840, "wander": 1.0, "noise": 0.1}}
    config["report"] = {"videos": 1, "width": 160, "height": 120}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    build_report(folder)
    return folder


class Page(HTMLParser):
    """Collects text and links; complains about tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.text, self.sources, self.links, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[k] for k in ("src", "poster") if k in attrs]
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(run):
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_page_is_self_contained_but_for_relative_videos(run, page):
    local = [s for s in page.sources if not s.startswith("data:image/png;base64,")]
    assert local and all((run / s).is_file() for s in local)
    assert len(page.sources) - len(local) >= 8  # five plots, a map and strips
    targets = [link for link in page.links if not link.startswith("#")]
    assert targets and all((run / t).is_file() for t in targets)
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    ids = set(re.findall(r'id="(\w+)"', (run / "report.html").read_text()))
    assert anchors <= ids
    text = re.sub(r"base64,[\w+/=]+", "", (run / "report.html").read_text())
    assert "http" not in text.replace("http-equiv", "")


def test_page_says_what_the_episodes_say(run, page):
    text = " ".join(" ".join(page.text).split())
    folder = RunFolder(run)
    for verdict in folder.verdicts:
        assert verdict.headline in text
    for row in folder.rows:
        if row.level <= 0:
            assert f"{100 * row.metrics['success'].value:.0f}" in text
    for record in folder.worst_pairs(1)[0]:
        assert f"cost {record.cost:g}" in text
    assert "840 episodes of the scripted expert" in text
    assert "4,096 environment steps" in text
    assert "unfinished" in text
    assert "mujoco 3.9.0" in text
    assert text.count("Perturbed images, level") >= 2


def test_results_hold_everything_a_row_needs(run):
    content = json.loads((run / "results.json").read_text())
    assert content["cost_semantics"] == [COST_SEMANTICS]
    assert content["steps"] == {"task_only": [4096], "lagrangian": [4096]}
    assert set(content["list_hashes"]) == {"hazard", "ood-1", "ood-2"}
    assert {v["mode"] for v in content["verdicts"]} == {"sampled", "argmax"}
    for row in content["rows"]:
        assert row["episodes"] and row["policy_seeds"] and row["list_hashes"]
        for estimate in row["metrics"].values():
            if estimate["n"] and estimate["value"] is not None:
                assert estimate["lo"] <= estimate["value"]
    assert content["differences"][0]["metrics"]["cost"]["n"] == 3


def test_a_page_shows_what_assurance_found(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "tiny")
    for arm, cost in (("task_only", 2.0), ("lagrangian", 1.0)):
        put(folder / "assurance", episodes(arm, n=3, cost=cost))
        put(folder / "assurance", episodes(arm, n=3, suite="noise-2", level=2, cost=cost + 1))
    found = write_assurance(folder / "assurance")
    text = (build_report(folder)).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and 'id="assurance"' in text and "#assurance" in page.links
    told = " ".join(" ".join(page.text).split())
    assert all(sentence in told for sentence in found.sentences)
    assert "level success %, task-only PPO" in told and "0 100 100 2.00 1.00 −1.00 " in told
    assert re.search(r"2 100 100 3\.00 2\.00 −1\.00 −[\d.]+ to −[\d.]+ 1 of 1", told)
    whole = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="assurance"' not in whole
    pictures = [s for s in page.sources if s.startswith("data:image/png")]
    assert len(pictures) == len([s for s in Page(whole).sources if s.startswith("data:")]) + 3
    old = folder / "assurance" / "assurance.json"
    old.write_text(json.dumps(json.loads(old.read_text()) | {"schema": 2}))
    with pytest.raises(ValueError, match=r"schema 2, this version reads 3; run .*again"):
        build_report(folder)


def test_results_are_what_their_schema_says(run):
    schema, content = checker("results.schema.json"), json.loads((run / "results.json").read_text())
    schema.validate(content)
    for broken in ({"schema": 1}, {"claims": {"clone": {}}}, {"more": 1}):
        assert not schema.is_valid(content | broken)


def test_the_sentences_of_the_first_screen_can_be_had_from_the_results_again(run, tmp_path):
    page = (Path(__file__).parents[2] / "docs/assurance.md").read_text(encoding="utf-8")
    script = page.split("<!-- file: recompute.py -->\n```python\n")[1].split("```")[0]
    (tmp_path / "recompute.py").write_text(script)
    command = [sys.executable, str(tmp_path / "recompute.py"), str(run / "results.json")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    text = " ".join(Page((run / "report.html").read_text(encoding="utf-8")).text)
    assert len(told) == 4 and all(line in text for line in told), told


def test_building_again_changes_no_byte_and_films_nothing_again(run):
    names = ("report.html", "results.json")
    before = {name: (run / name).read_bytes() for name in names}
    filmed = []
    build_report(run, on_film=filmed.append)
    assert filmed == []
    assert {name: (run / name).read_bytes() for name in names} == before


def test_a_copy_of_the_folder_gives_the_same_report(run, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(run, copy)
    (copy / "report.html").unlink()
    build_report(copy)
    assert (copy / "report.html").read_bytes() == (run / "report.html").read_bytes()


def test_the_choice_among_candidates_is_told(run, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(run, copy)
    candidates = [{"steps": 500, "success": 0.8}, {"steps": 1000, "success": 0.7}]
    content = {"chosen": 500, "budgets": {}, "candidates": candidates}
    (copy / "train/task_only/selection.json").write_text(json.dumps(content))
    text = " ".join(Page(build_report(copy).read_text(encoding="utf-8")).text)
    assert text.count("Of 2 policies the one after 500 steps was chosen on") == 1


def test_new_episodes_are_filmed_again(run, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(run, copy)
    path = eval_path(copy, "task_only", "hazard", "sampled")
    changed = [
        dataclasses.replace(r, setup="another-policy") for r in RunFolder(copy).records
        if r.arm == "task_only" and r.suite == "hazard"
    ]  # fmt: skip
    write_records(path, changed)
    filmed = []
    build_report(copy, on_film=filmed.append)
    assert filmed and all(name.startswith("task_only") for name in filmed)


def test_a_replay_that_differs_is_said_so(run, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "videos")
    path = eval_path(copy, "lagrangian", "hazard", "sampled")
    records = [r for r in RunFolder(copy).records if r.arm == "lagrangian" and r.suite == "hazard"]
    write_records(path, [dataclasses.replace(r, path=[[0.0, 0.0], *r.path[1:]]) for r in records])
    build_report(copy)
    assert "took another course" in (copy / "report.html").read_text()


def test_an_unfinished_run_still_has_a_report(tmp_path):
    (tmp_path / "empty").mkdir()
    page = Page(build_report(tmp_path / "empty").read_text())
    text = " ".join(page.text)
    assert "nothing to claim" in text
    assert "Nothing has been evaluated yet" in text
    assert json.loads((tmp_path / "empty" / "results.json").read_text())["rows"] == []
    train(tmp_path / "half")
    page = Page(build_report(tmp_path / "half").read_text())
    assert sum(s.startswith("data:image/png") for s in page.sources) == 2


def test_text_from_files_is_escaped(run, tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "config.yaml").write_text("env: {id: 'x:<script>alert(1)</script>'}\n")
    assert "<script>" not in build_report(folder).read_text()


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        build_report(tmp_path / "nowhere")


def test_worst_pairs_are_the_costliest_on_common_scenarios(tmp_path):
    base = episodes("task_only", n=6)
    ours = episodes("lagrangian", n=6)
    base = [dataclasses.replace(r, cost=c) for r, c in zip(base, [0, 3, 9, 1, 9, 2])]
    ours = [dataclasses.replace(r, cost=c) for r, c in zip(ours, [0, 0, 0, 5, 0, 0])]
    put(tmp_path, [*base, *ours[:4], ours[5]])
    pairs = RunFolder(tmp_path).worst_pairs(2)
    assert [(a.scenario_index, b.scenario_index) for a, b in pairs] == [(2, 2), (1, 1), (3, 3)]
    assert {(a.arm, b.arm) for a, b in pairs} == {("task_only", "lagrangian")}


def test_several_seeds_make_one_markdown_report(tmp_path):
    for seed in (0, 1, 2):
        put(tmp_path / f"s{seed}", good_run(seeds=(seed,)))
        train(tmp_path / f"s{seed}")
    text = markdown_report([tmp_path / f"s{seed}" for seed in (0, 1, 2)])
    assert "**sampled actions: effect shown.**" in text
    assert "seed 2: −" in text
    assert "| hazard | lagrangian | sampled | 150 |" in text
    assert "Training seeds 0, 1, 2" in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.rstrip().endswith("|")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost_semantics": "0"}, "cost semantics 0, "),
        ({"perturbation": {"version": "0"}}, "perturbations 0, 1"),
        ({"list_hash": "other"}, "scenario lists of zero on hazard list-hazard, other"),
    ],
)
def test_what_was_measured_differently_is_not_compared(tmp_path, change, message):
    played = episodes("zero", n=3)
    now = [dataclasses.replace(r, perturbation={"version": "1"}) for r in played]
    put(tmp_path / "now", now)
    put(tmp_path / "then", [dataclasses.replace(r, **change) for r in now])
    with pytest.raises(ValueError, match=message):
        markdown_report([tmp_path / "now", tmp_path / "then"])


def test_a_page_with_its_videos_in_it_refers_to_nothing(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    page = Page(build_report(tmp_path / "run", embed_videos=True).read_text())
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    assert sum(source.startswith("data:video/mp4;base64,") for source in page.sources) >= 2
    assert not [link for link in page.links if link.endswith(".mp4")]


def test_terminal_table_of_a_run(run):
    assert results_table(run).row_count == len([r for r in RunFolder(run).rows if r.level <= 0])
