"""Simulated nights: models of human and mouse sleep, of its signals and of its scorer."""
