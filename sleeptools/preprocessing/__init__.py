"""Recordings to epochs: filters and scales, resampling, trimming of wake, cutting into epochs."""
