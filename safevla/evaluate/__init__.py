"""Evaluation: suites of scenarios, who acts in them, the episode runner, metrics with intervals."""
