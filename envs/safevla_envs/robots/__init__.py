"""Robots: names, limits, home pose, how they are attached to a model."""
