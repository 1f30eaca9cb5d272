#!/usr/bin/env bash
# SlumberNet: Table 1 of its paper (doi:10.1038/s41598-024-54727-0), as its program does it: epochs of
# one mouse on both sides of a fold, signals interleaved. Then by mouse: as the paper describes it, and
# with a learning rate that moves the weights.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw slumbernet
step convert slumbernet "$DATA" recordings --jobs "$JOBS"
step preprocess slumbernet-authors recordings epochs-authors --jobs "$JOBS"
step preprocess slumbernet recordings epochs --jobs "$JOBS"

folds 5 --split stratified-epochs
train slumbernet-authors epochs-authors slumbernet --recipe authors --set model.layout=authors \
  --protocol best-on-test

folds 5
train slumbernet-paper epochs slumbernet --recipe paper
train slumbernet epochs slumbernet

report
