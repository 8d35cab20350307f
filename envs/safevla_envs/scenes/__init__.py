"""Scenario -> compiled model: catalogue, rooms, things, people."""
