"""Simulated nights: a physiological model of a person's or a mouse's sleep, its signals and its scorer."""
