"""Automatic sleep staging: the library behind the `sleeptools` command."""
