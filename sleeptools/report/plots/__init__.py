"""Figures that matplotlib draws; `figures` draws the hypnogram and the confusion matrix itself."""

from sleeptools.report.plots.canvas import MARKERS, NAMED, PAGE, PAPER, SENTINELS, Plot
from sleeptools.report.plots.inside import embedding, weights
from sleeptools.report.plots.signals import spectra, waveforms
from sleeptools.report.plots.subjects import dots, models, shares
from sleeptools.report.plots.training import curves
from sleeptools.report.plots.trust import Agreement, Bins, bland_altman, per_bin, reliability

__all__ = [
    "MARKERS",
    "NAMED",
    "PAGE",
    "PAPER",
    "SENTINELS",
    "Agreement",
    "Bins",
    "Plot",
    "bland_altman",
    "curves",
    "dots",
    "embedding",
    "models",
    "per_bin",
    "reliability",
    "shares",
    "spectra",
    "waveforms",
    "weights",
]
