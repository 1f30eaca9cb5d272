"""Inference of whole models without torch, a file for each model with native kernels."""
