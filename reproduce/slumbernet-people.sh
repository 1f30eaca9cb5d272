#!/usr/bin/env bash
# SlumberNet on recordings of people, which Figure 6 of its paper proposes and does not try
# (doi:10.1038/s41598-024-54727-0): Sleep-EDF-20, four signals at 100 Hz in 30-s epochs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw sleep-edf --subset 20
step convert sleep-edf "$DATA" recordings --subset 20 --jobs "$JOBS"
step preprocess sleep-edf recordings epochs --jobs "$JOBS"

published_folds 20
train slumbernet epochs slumbernet --set model.channels=4 --set model.stages=5 \
  --set model.sample_rate=100 --set model.epoch_seconds=30

report
