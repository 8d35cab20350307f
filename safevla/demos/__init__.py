"""Demonstrations: recording them with a scripted expert, and reading them back.

The folder layout is LeRobot's v3: Parquet tables with PNG frames inside, and a few files that
describe them. Importing this package needs neither torch nor MuJoCo.
"""

from safevla.demos.dataset import DemoDataset, DemoWriter, Episode
from safevla.demos.recording import collect

__all__ = ["DemoDataset", "DemoWriter", "Episode", "collect"]
