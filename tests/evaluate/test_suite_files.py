"""Suites of one's own: from a YAML file, or a list of scenarios."""

import dataclasses

import pytest

from safevla.config import load_config
from safevla.display import Display
from safevla.evaluate.evaluation import evaluate_agent
from safevla.evaluate.suites import named_list, own_suite, suites
from safevla_envs.scenes.scenario import save_list


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_list(tmp_path / "two.jsonl.gz", named_list("small_val200_hazard")[:2])

    def write(text, name="night.yaml"):
        (tmp_path / name).write_text(text)
        return name

    return write


def test_a_file_says_which_homes_and_how_perturbed(written):
    name = written("scenarios: small_val200_hazard\ncount: 3\nperturb: {lighting: 4, noise: 2}\n")
    suite = own_suite(name)
    assert (suite.name, suite.asked, suite.level) == ("night", name, 0)
    assert suite.scenarios == tuple(named_list("small_val200_hazard")[:3])
    assert repr(suite.wrappers[0]).endswith("levels={'lighting': 4, 'noise': 2})")
    # without count the whole list; a list beside the file is found from anywhere
    beside = written("scenarios: two.jsonl.gz\n", "plain.yaml")
    assert len(own_suite(beside).scenarios) == 2 and own_suite(beside).wrappers == ()
    assert own_suite("two.jsonl.gz").name == "two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: 3\n", "scenarios: "),
        ("scenarios: two.jsonl.gz\nperturbs: {noise: 1}\n", "perturbs: "),
        ("scenarios: two.jsonl.gz\ncount: many\n", "count: .*many"),
        ("scenarios: two.jsonl.gz\ncount: 3\n", "count=3: 1 to 2"),
        ("scenarios: two.jsonl.gz\ncount: 0\n", "count=0: 1 to 2"),
        ("scenarios: two.jsonl.gz\nperturb: {fog: 1}\n", "perturb: axis 'fog': allowed are"),
        ("scenarios: two.jsonl.gz\nperturb: {noise: 6}\n", "perturb: noise=6: a level of 0, 1"),
        ("scenarios: nowhere\n", "scenario list 'nowhere': neither a file nor one of"),
        ("[1, 2]\n", "must hold a mapping"),
        ("a: b: c\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_suite_is_refused_in_a_line(written, text, message):
    with pytest.raises(ValueError, match=message) as refusal:
        own_suite(written(text))
    assert "\n" not in str(refusal.value)


def test_a_run_and_the_command_line_take_files(written):
    name = written("scenarios: two.jsonl.gz\n")
    config = load_config("quick", [f"eval.suites=[hazard,{name}]"])
    assert suites(config.eval)["night"].asked == name
    with pytest.raises(ValueError, match=r"no\.yaml': there is no such file"):
        suites(dataclasses.replace(config.eval, suites=("no.yaml",)))
    taken = written("scenarios: two.jsonl.gz\n", "noise-3.yaml")
    with pytest.raises(ValueError, match="a suite is called noise-3 already"):
        suites(dataclasses.replace(config.eval, suites=(taken,)))


def test_what_cannot_be_played_is_said(written):
    name = written("scenarios: two.jsonl.gz\nperturb: {noise: 2}\n")
    small = load_config("quick", ["workers=1", "env.max_actions=2"])

    def play(*names):
        how = {"mode": "sampled", "out": None, "display": Display(), "workers": 0}
        return evaluate_agent(small, "zero", suite_names=names, **how)

    with pytest.raises(ValueError, match="zero looks at nothing that night perturbs"):
        play(name)
    with pytest.raises(ValueError, match=r"suite 'fog': neither a file nor one of hazard, benign"):
        play("hazard", "fog")
    assert [(r.suite, r.length) for r in play("two.jsonl.gz")] == [("two", 2), ("two", 2)]
