"""Runs one arm on one list, as the tests like it: everything but the arm and the list by name."""

from pathlib import Path

from safevla.evaluate.runner import EpisodePool
from safevla.evaluate.worker import Job


def run_episodes(make_agent, scenarios, env_kwargs, *, workers=2, out=None, pool=None, **settings):
    job = Job(
        make_agent=make_agent, scenarios=tuple(scenarios), env_kwargs=env_kwargs,
        **settings | {"wrappers": tuple(settings.get("wrappers", ()))},
    )  # fmt: skip
    out = None if out is None else Path(out)
    if pool is not None:
        return pool.run(job, out=out)
    with EpisodePool(workers) as own:
        return own.run(job, out=out)
