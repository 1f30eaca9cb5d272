#!/usr/bin/env bash
# The ablations of MASleepNet on Sleep-EDF-20 that its paper names (doi:10.3390/biomimetics10100642):
# without the large kernels, EEG alone, without squeeze-and-excitation, and the whole.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw sleep-edf --subset 20
step convert sleep-edf "$DATA" recordings --subset 20 --jobs "$JOBS"
step preprocess sleep-edf recordings epochs --jobs "$JOBS"

published_folds 20
train ablations epochs masleepnet --ablation no-msconv,eeg,no-se,all
RUNS=(runs/ablations/{no-msconv,eeg,no-se,all})

report
