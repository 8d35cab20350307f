"""The tests here run episodes as those of the evaluation do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluate"))
