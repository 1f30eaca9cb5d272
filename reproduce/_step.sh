#!/usr/bin/env bash
# What a job of a script runs: the command given.
exec "$@"
