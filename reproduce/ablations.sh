#!/usr/bin/env bash
# The ablations of MMASleepNet on Sleep-EDF-20: Figure 4 of its paper (doi:10.3389/fnins.2022.973761).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw sleep-edf --subset 20
step convert sleep-edf "$DATA" recordings --subset 20 --jobs "$JOBS"
step preprocess sleep-edf recordings epochs --jobs "$JOBS"

published_folds 20
train ablations epochs mmasleepnet --recipe authors --ablation mbfe,mbfe+te,eeg,eeg+eog,all
RUNS=(runs/ablations/{mbfe,mbfe+te,eeg,eeg+eog,all})

report
