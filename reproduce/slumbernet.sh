#!/usr/bin/env bash
# SlumberNet: Table 1 of its paper (doi:10.1038/s41598-024-54727-0), as paper and program validated
# it: a fifth of the epochs, stage by stage, drawn five times for the test, so that epochs of one mouse
# are on both sides, and the pass kept that is best there. Once as its program does the rest (signals
# interleaved), once as its text does. Then by mouse: the text's again, and ours with a learning rate
# that moves the weights.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw slumbernet
step convert slumbernet "$DATA" recordings --jobs "$JOBS"
step preprocess slumbernet-authors recordings epochs-authors --jobs "$JOBS"
step preprocess slumbernet-paper recordings epochs-paper --jobs "$JOBS"
step preprocess slumbernet recordings epochs --jobs "$JOBS"

folds 5 --split stratified-shuffle
train slumbernet-authors epochs-authors slumbernet --recipe authors --protocol best-on-test
train slumbernet-paper epochs-paper slumbernet --recipe paper --protocol best-on-test

folds 5
train slumbernet-paper-by-mouse epochs-paper slumbernet --recipe paper
train slumbernet epochs slumbernet

report
