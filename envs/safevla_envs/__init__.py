"""SafeVLA's environments: `gymnasium.make("safevla_envs:SafeVLA/ObjNav-v0")`.

Importing registers the ids and does nothing else.
"""

from typing import Any

import gymnasium

from safevla_envs.tasks import TASKS

__all__ = ["ENV_IDS", "make_vec"]

ENV_IDS = tuple(f"SafeVLA/{task}-v0" for task in TASKS)

for _task, _id in zip(TASKS, ENV_IDS):
    if _id not in gymnasium.registry:
        # no max_episode_steps: the environment owns its limits, so that its costs see truncation
        gymnasium.register(
            id=_id, entry_point="safevla_envs.env:SafeVLAEnv", kwargs={"task": _task}
        )


def make_vec(
    env_id: str, num_envs: int, *, vectorization: str = "async", **kwargs: Any
) -> gymnasium.vector.VectorEnv:
    """Makes a vector environment with NEXT_STEP autoreset.

    With SAME_STEP the last step's costs would be found in `final_info` only.

    Args:
        env_id: a registered id.
        num_envs: number of environments.
        vectorization: "async" (a process each) or "sync".
        **kwargs: the environment's arguments.

    Raises:
        ValueError: if `vectorization` is neither.
    """
    if vectorization not in ("async", "sync"):
        raise ValueError(f"vectorization={vectorization!r}: allowed are 'async' and 'sync'")
    makers = [lambda: gymnasium.make(f"safevla_envs:{env_id}", **kwargs)] * num_envs
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    if vectorization == "sync":
        return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)
    return gymnasium.vector.AsyncVectorEnv(makers, autoreset_mode=mode, context="spawn")
