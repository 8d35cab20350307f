"""Assurance: suites, episode runner, metrics with intervals, tables, videos, HTML report."""
