"""Fetching a published data set: files resumed and verified, over HTTP."""
