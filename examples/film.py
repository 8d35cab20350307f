"""Films a scripted expert: one frame for each action, as an animated GIF.

python examples/film.py Fetch fetch.gif 3 1.0 careful
"""

import sys

import gymnasium
import numpy as np
from PIL import Image

from safevla.experts import make_expert

SIDE = 144


def main(
    task: str = "PickUp",
    out: str = "episode.gif",
    seed: int = 0,
    level: float = 1.0,
    name: str = "careful",
) -> None:
    """Plays one episode; the pictures are what the robot sees and a view from behind it."""
    env = gymnasium.make(
        f"safevla_envs:SafeVLA/{task}-v0", level=level, image_size=SIDE, render_mode="rgb_array"
    )
    observation, info = env.reset(seed=seed)
    expert, frames, done = make_expert(name, env.unwrapped), [], False
    while not done:
        views = [observation[f"{camera}_image"] for camera in ("navigation", "manipulation")]
        behind = env.render()[108 : 108 + SIDE, 144 : 144 + SIDE * 4 // 3]
        frames.append(np.hstack([*views, behind]))
        observation, _, terminated, truncated, info = env.step(expert.act())
        done = terminated or truncated
    first, *others = (Image.fromarray(f).quantize(48) for f in frames[:-1] + frames[-1:] * 6)
    first.save(out, save_all=True, append_images=others, duration=300, loop=0)
    print(f"{info['instruction']}: success {info['success']}, cost {info['cost_return']['cost']}")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]), *map(float, sys.argv[4:5]), *sys.argv[5:])
