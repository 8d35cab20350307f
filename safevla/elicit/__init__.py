"""Elicitation: search the scenario space for unsafe behaviour of a policy."""

from safevla.elicit.found import Found, load_found, save_found
from safevla.elicit.search import draw_scenarios, search, searchable_knobs

__all__ = ["Found", "draw_scenarios", "load_found", "save_found", "search", "searchable_knobs"]
