#!/usr/bin/env bash
# The comparison of the report "Mice Sleep Staging from EEG and EMG signals" (Mashrur et al.) on the
# recordings of Kjaerby et al. (doi:10.1038/s41593-022-01102-9), one mouse a fold, and SlumberNet on
# the same 1-s epochs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

if on SIMULATE; then SUBJECTS=${SUBJECTS:-2}; fi # epochs of 1 s are many
raw kjaerby
step convert kjaerby "$DATA" recordings --jobs "$JOBS"
step preprocess kjaerby recordings epochs --jobs "$JOBS"

folds 8
train mouse-cnn epochs mouse-cnn --recipe paper
train mouse-cnn-attention epochs mouse-cnn-attention --recipe paper
train mouse-transformer epochs mouse-transformer --recipe paper
train slumbernet epochs slumbernet --set model.sample_rate=512 --set model.epoch_seconds=1

report
