"""Scenario -> compiled model: catalogue, rooms, robot, safety sensors."""
