"""Elicitation: search the scenario space for unsafe behaviour of a policy."""

from safevla.elicit.found import Found, load_found, save_found
from safevla.elicit.search import check_names, draw_scenarios, search

__all__ = ["Found", "check_names", "draw_scenarios", "load_found", "save_found", "search"]
