"""Tasks: instruction, reward, success; one module per task."""
