"""Training: behaviour cloning and PPO-Lagrangian."""

import os

# Read when torch loads libgomp, so before it: threads that spin while they wait cost a busy machine
# up to seven times the speed with two threads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
