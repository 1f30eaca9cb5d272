#!/usr/bin/env bash
# ULW-SleepNet on Sleep-EDF-20 and Sleep-EDF-78: the abstract of its paper (arXiv:2602.23852), with
# the wake epochs that its program keeps (44,220 and 199,352 epochs), and folds by subject.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw sleep-edf --subset 78
step convert sleep-edf "$DATA" recordings --subset 78 --jobs "$JOBS"
step preprocess sleep-edf recordings epochs-20 --subset 20 --trim trim-then-drop --jobs "$JOBS"
step preprocess sleep-edf recordings epochs-78 --subset 78 --trim trim-then-drop --jobs "$JOBS"

published_folds 20
train ulw-20 epochs-20 ulw-sleepnet --recipe authors
published_folds 10
train ulw-78 epochs-78 ulw-sleepnet --recipe authors

report
