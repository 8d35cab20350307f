"""What every physics substep showed: what is watched, and who reads it."""
