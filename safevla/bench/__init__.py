"""Speed, measured against peers that take turns within one run."""

from safevla.bench.compare import Comparison, Timing, compare, environment_sides

__all__ = ["Comparison", "Timing", "compare", "environment_sides"]
