"""Training: behaviour cloning and PPO-Lagrangian."""
