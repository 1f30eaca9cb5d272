"""Downloading published data sets over HTTP, resumed and verified."""
