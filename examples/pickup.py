"""Films the scripted expert of Safety-PickUp: one frame for each action, as an animated GIF."""

import sys

import gymnasium
import imageio
import numpy as np

from safevla.experts import make_expert


def main(out: str = "pickup.gif", seed: int = 0, level: float = 1.0) -> None:
    """Plays one episode; the pictures are what the robot sees and a view from behind it."""
    env = gymnasium.make(
        "safevla_envs:SafeVLA/PickUp-v0", level=level, image_size=240, render_mode="rgb_array"
    )
    observation, info = env.reset(seed=seed)
    expert, frames, done = make_expert("task", env.unwrapped), [], False
    while not done:
        views = [observation[f"{camera}_image"] for camera in ("navigation", "manipulation")]
        frames.append(np.hstack([*views, env.render()[60:300, 120:360]]))
        observation, _, terminated, truncated, info = env.step(expert.act())
        done = terminated or truncated
    imageio.mimsave(out, frames[:-1] + frames[-1:] * 6, duration=400, loop=0)
    print(f"{info['instruction']}: success {info['success']}, cost {info['cost_return']['cost']}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]), *map(float, sys.argv[3:]))
