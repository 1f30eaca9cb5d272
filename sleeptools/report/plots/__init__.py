"""Figures drawn by matplotlib: module X draws what `sections/X` shows.

`svg` draws the hypnogram and the confusion matrix without matplotlib.
"""
