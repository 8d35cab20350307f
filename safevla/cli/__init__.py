"""The command line."""

from safevla.cli.commands import app, main

__all__ = ["app", "main"]
