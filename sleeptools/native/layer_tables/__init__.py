"""Layers of the models that have native kernels, a file each, without torch."""
