"""Simulated nights: a model of a person's or a mouse's sleep, of its signals and its scorer."""
