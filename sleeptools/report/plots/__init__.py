"""Figures drawn by matplotlib: module X draws what `sections/X` shows; the others draw for `items`.

`svg` draws the hypnogram and the confusion matrix without matplotlib.
"""
