"""The tests here reuse the small worlds of the other folders."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("envs/costs", "train", "evaluate", "report")]
