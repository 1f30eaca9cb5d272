"""A run folder: what `train` writes and `evaluate` and `report` read."""
