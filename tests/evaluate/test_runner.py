import dataclasses
import functools
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_nav
from running import run_episodes

from safevla.evaluate.agents import ReplayAgent
from safevla.evaluate.arms import make_arm
from safevla.evaluate.records import read_records, write_records
from safevla.evaluate.runner import EpisodePool
from safevla.evaluate.worker import SLOTS, Job
from safevla_envs.perturb import Perturbation

ENV = {"id": "tiny_nav:Tiny/Nav-v0", "max_episode_steps": 12}
RANDOM = make_arm("random")


def run(arm=RANDOM, n=9, workers=0, **changes):
    settings = {"policy_seed": 1, "deterministic": False, "suite": "hazard"} | changes
    env = settings.pop("env", ENV)
    return run_episodes(arm, tiny_nav.scenarios(n), env, workers=workers, **settings)


@dataclasses.dataclass(frozen=True)
class Scripted:
    """Makes an agent that repeats the same actions in every episode, one per slot."""

    actions: tuple[int, ...]

    def __call__(self, deterministic):
        return _Slots([ReplayAgent(self.actions) for _ in range(SLOTS)])


class _Slots:
    def __init__(self, agents):
        self.agents = agents

    def reset(self, i, env, rng):
        self.agents[i].reset(0, env, rng)

    def act(self, obs, envs):
        return [
            None if env is None else agent.act(obs, [env])[0]
            for agent, env in zip(self.agents, envs)
        ]


def test_records_tell_the_whole_episode():
    record = run(Scripted((0, 0, 4, 0, 0, 0, 5)), n=1)[0]
    target = np.array(tiny_nav.scenarios(1)[0].target)
    assert record.length == 7
    assert record.actions == [0, 0, 4, 0, 0, 0, 5]
    assert len(record.path) == 8
    assert record.path[0] == pytest.approx([0, 0], abs=0.02)
    assert record.path[-1] == pytest.approx([1.0, 0], abs=0.1)
    assert record.success == (np.linalg.norm(record.path[-1] - target) < 0.35)
    assert record.sim_seconds == 3.5
    assert record.costs == {"corner": 1.0, "impact": 0.0}
    assert record.cost == 1.0
    assert record.severity == {"corner": "minor", "impact": None}
    (event,) = record.events
    assert event["constraint"] == "corner"
    assert event["xy"] == record.path[event["step"]]
    assert event["charged"] == 1.0
    inside = np.abs(np.array(record.path) - tiny_nav.scenarios(1)[0].hazard).max(1) < 0.12
    assert event["step"] == np.flatnonzero(inside)[0]
    assert event["last_step"] == np.flatnonzero(inside)[-1]
    assert (record.suite, record.mode, record.instruction) == ("hazard", "sampled", "find the mug")
    assert record.cost_semantics == "1"


@pytest.mark.parametrize(
    ("actions", "env", "ended_by"),
    [
        ((5,), {}, "wrong_end"),
        ((4,) * 12, {}, "max_steps"),
        ((4,) * 12, {"max_seconds": 2.0}, "max_seconds"),
        ((0,) * 5 + (5,), {}, "success"),
    ],
)
def test_what_ended_an_episode(actions, env, ended_by):
    record = run(Scripted(actions), n=1, env=ENV | env)[0]
    assert record.ended_by == ended_by
    assert record.success == (ended_by == "success")


def test_a_diverged_simulation_is_recorded_apart():
    scenario = dataclasses.replace(tiny_nav.scenarios(1)[0], diverges=True)
    (record,) = run_episodes(
        Scripted((4,) * 12), [scenario], ENV, policy_seed=0, deterministic=False, workers=0
    )
    assert record.ended_by == "sim_error"
    assert record.sim_error == "BADQACC at 0.7 s"
    assert not record.valid
    assert np.isfinite(record.path).all()


def test_the_same_in_one_process_in_one_worker_and_in_two(checkpoint):
    for arm, deterministic in ((RANDOM, False), (make_arm("clone", checkpoint), False)):
        here = run(arm, deterministic=deterministic)
        assert len({tuple(record.actions) for record in here}) > 4
        assert [r.scenario_index for r in here] == list(range(9))
        assert run(arm, workers=2, deterministic=deterministic) == here


def test_a_shorter_list_gives_the_same_episodes(checkpoint):
    arm = make_arm("clone", checkpoint)
    short, long = run(arm, n=3), run(arm, n=9)
    assert [r.actions for r in short] == [r.actions for r in long[:3]]


def test_a_list_that_has_grown_is_gone_on_with(tmp_path):
    out, played = tmp_path / "e.jsonl", []
    with EpisodePool(0) as pool:
        few, more = (
            Job(make_agent=RANDOM, scenarios=tiny_nav.scenarios(n), env_kwargs=ENV, policy_seed=1,
                deterministic=False, suite="hazard")
            for n in (3, 5)
        )  # fmt: skip
        first = pool.run(few, out=out)
        longer = pool.run(more, out=out, on_record=lambda record: played.append(record.actions))
        assert [r.actions for r in longer[:3]] == [r.actions for r in first] == played[:3]
        assert longer == read_records(out) == run(n=5)
        with pytest.raises(ValueError, match="another policy, scenario list"):
            pool.run(few, out=out)
    assert len(read_records(out)) == 5


def test_policy_seed_matters_when_sampling_and_not_for_argmax(checkpoint):
    arm = make_arm("clone", checkpoint)
    sampled = [[r.actions for r in run(arm, policy_seed=s)] for s in (1, 2)]
    assert sampled[0] != sampled[1]
    argmax = run(arm, deterministic=True)
    assert {r.mode for r in argmax} == {"argmax"}
    assert [r.actions for r in argmax] != sampled[0]


def test_perturbation_is_applied_and_recorded(checkpoint):
    arm = make_arm("clone", checkpoint)
    wrapper = functools.partial(Perturbation, levels={"colour": 5})
    plain = run(arm)
    perturbed = run(arm, wrappers=[wrapper])
    assert [r.perturbation for r in plain] == [{}] * 9
    assert {r.perturbation["colour"]["level"] for r in perturbed} == {5}
    assert [r.actions for r in plain] != [r.actions for r in perturbed]
    # an arm that does not look sees no difference at all
    blind = run(wrappers=[wrapper])
    assert [dataclasses.replace(r, perturbation={}, setup="") for r in blind] == [
        dataclasses.replace(r, setup="") for r in run()
    ]


def test_swapped_arm_is_recorded_with_what_it_was_told(checkpoint):
    records = run(make_arm("swapped_instruction", checkpoint))
    assert all("mug" not in record.instruction for record in records)


def test_finished_episodes_are_kept_and_not_run_again(tmp_path):
    out = tmp_path / "eval" / "random.hazard.sampled.jsonl"
    whole = run()
    write_records(out, [whole[4], whole[1]])
    marked = out.read_text().replace('"find the mug"', '"as it was"')
    out.write_text(marked + '{"arm":"rand')  # a line cut short by a crash
    again = run(out=out)
    assert [r.instruction for r in again].count("as it was") == 2
    assert [r.actions for r in again] == [r.actions for r in whole]
    assert read_records(out) == again


def test_scenarios_are_kept_beside_their_episodes(tmp_path):
    record = run(out=tmp_path / "eval" / "a.jsonl")[3]
    kept = tmp_path / "eval" / "lists" / f"{record.list_hash}.jsonl.gz"
    lines = gzip.decompress(kept.read_bytes()).decode().splitlines()
    assert lines == [scenario.to_json() for scenario in tiny_nav.scenarios(9)]


def test_other_seeds_share_the_file(tmp_path):
    out = tmp_path / "a.jsonl"
    first = run(out=out)
    second = run(out=out, policy_seed=2)
    assert read_records(out) == [*first, *second]
    assert run(out=out) == first


@pytest.mark.parametrize(
    "changes",
    [{"n": 5}, {"arm": make_arm("zero")}, {"suite": "benign"}, {"env": ENV | {"image_size": 8}}],
)
def test_episodes_of_another_setup_are_not_mixed(tmp_path, changes):
    out = tmp_path / "a.jsonl"
    run(out=out)
    before = out.read_text()
    with pytest.raises(ValueError, match=r"a\.jsonl: holds episodes of another"):
        run(out=out, **changes)
    assert out.read_text() == before


def test_one_pool_serves_many_jobs(checkpoint):
    alone = [run(RANDOM), run(make_arm("clone", checkpoint), deterministic=True)]
    with EpisodePool(workers=2) as pool:
        pids = None
        for _ in range(2):
            together = [
                run(RANDOM, pool=pool),
                run(make_arm("clone", checkpoint), deterministic=True, pool=pool),
            ]
            assert together == alone
            pids = pids or pool._processes.pids
            assert pids == pool._processes.pids


@pytest.mark.parametrize("workers", [0, 2])
def test_jobs_that_run_together_and_are_cut_short_give_the_same(tmp_path, workers):
    jobs = [
        Job(make_agent=RANDOM, scenarios=tiny_nav.scenarios(n), env_kwargs=ENV, policy_seed=n,
            deterministic=False, suite=f"s{n}")
        for n in (5, 1, 4, 9)
    ]  # fmt: skip
    todo = [(job, tmp_path / f"{job.suite}.jsonl") for job in jobs]
    seen = []

    def stop(record):
        seen.append((record.suite, record.scenario_index))
        if len(seen) == 7:
            raise KeyboardInterrupt

    with EpisodePool(workers) as pool:
        alone = [pool.run(job) for job in jobs]
        with pytest.raises(KeyboardInterrupt):
            pool.run_all(todo, on_record=stop)
        kept = [(r.suite, r.scenario_index) for _, out in todo for r in read_records(out)]
        assert sorted(kept) == sorted(seen)
        played = list(kept)
        assert pool.run_all(todo, on_record=lambda r: seen.append((r.suite, r.scenario_index)))
        assert sorted(seen[7:]) == sorted(
            {(r.suite, r.scenario_index) for run in alone for r in run}
        )
        assert seen[7:14] == played, "those in files are reported first, and not played again"
    assert [read_records(out) for _, out in todo] == alone


def test_bad_input_in_a_worker_stays_a_value_error(checkpoint, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError):
        run(make_arm("clone", str(tmp_path)), workers=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_environment_keeps_what_was_finished(tmp_path, workers):
    out = tmp_path / "a.jsonl"
    job = Job(
        make_agent=Scripted((5,)),
        scenarios=tuple(tiny_nav.scenarios(6)),
        env_kwargs=ENV,
        policy_seed=0,
        deterministic=False,
    )
    with EpisodePool(workers) as pool:
        pool.run(job, out=out)
        broken = dataclasses.replace(
            job, make_agent=Scripted((4,) * 12), env_kwargs=ENV | {"broken_at": 3}
        )
        with pytest.raises(RuntimeError, match="the motor is on fire"):
            pool.run(broken)
        assert pool.run(job) == read_records(out)  # the pool can be used again


def test_a_killed_worker_is_noticed():
    with EpisodePool(workers=1) as pool:
        run(n=1, pool=pool)
        victim = pool._processes.pids[0]

        def kill(record):
            os.kill(victim, signal.SIGKILL)

        job = Job(
            make_agent=RANDOM,
            scenarios=tuple(tiny_nav.scenarios(200)),
            env_kwargs=ENV,
            policy_seed=1,
            deterministic=False,
        )
        with pytest.raises(RuntimeError, match="worker died"):
            pool.run(job, on_record=kill)
        assert len(run(pool=pool)) == 9  # with a new one


INTERRUPTED = """
import sys, tiny_nav
from safevla.evaluate.arms import make_arm
from running import run_episodes
if __name__ == "__main__":
    env = {"id": "tiny_nav:Tiny/Nav-v0", "max_episode_steps": 3000, "image_size": 128}
    print("started", flush=True)
    run_episodes(make_arm("random"), tiny_nav.scenarios(400), env, policy_seed=1,
                 deterministic=False, workers=2, out=sys.argv[1])
"""


def stopped_midway(folder, how):
    """Starts a run of 400 long episodes in processes of its own, and stops them by a signal."""
    script, out = folder / "script.py", folder / "out.jsonl"
    script.write_text(INTERRUPTED)
    found = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found))}
    process = subprocess.Popen(
        [sys.executable, str(script), str(out)],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a shell's background jobs, and so tests in them, start with Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (out.exists() and out.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    return process, errors, out


def test_ctrl_c_leaves_finished_episodes_and_no_process(tmp_path):
    process, errors, out = stopped_midway(tmp_path, signal.SIGINT)
    assert errors.count("Traceback") <= 1  # the parent's own; workers stay silent
    assert 0 < len(read_records(out)) < 400
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_what_a_kill_leaves_is_gone_on_with(tmp_path):
    """No finished episode is played again, and none is lost."""
    *_, out = stopped_midway(tmp_path, signal.SIGKILL)
    kept = read_records(out)
    assert 0 < len(kept) < 400
    n = max(record.scenario_index for record in kept) + 3
    env = {"id": "tiny_nav:Tiny/Nav-v0", "max_episode_steps": 3000, "image_size": 128}
    how = {"policy_seed": 1, "deterministic": False, "workers": 0}
    begun = []
    agent = make_arm("random")

    class Counted(type(agent)):
        def __call__(self, deterministic):
            made = super().__call__(deterministic)
            reset = made.reset
            made.reset = lambda *args: begun.append(1) or reset(*args)
            return made

    counted = Counted(**dataclasses.asdict(agent))
    records = run_episodes(counted, tiny_nav.scenarios(n), env, out=str(out), **how)
    assert len(records) == n and len(begun) == n - len(kept)
    by_index = {record.scenario_index: record.actions for record in records}
    assert all(by_index[record.scenario_index] == record.actions for record in kept)
