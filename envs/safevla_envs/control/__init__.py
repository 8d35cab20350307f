"""Action spaces: how an action becomes set-points, tick by tick."""
