#!/usr/bin/env bash
# SlumberNet on mice that nothing was trained on: Table 3, Figure 5 and the time of scoring of its
# paper (doi:10.1038/s41598-024-54727-0). UNSEEN is a folder with the files of those mice, DATA one
# with the others'. Nothing chooses the pass: the last one is tested, as in the paper.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw slumbernet
unseen slumbernet --subjects 3 --seed 1
step convert slumbernet "$DATA" recordings --jobs "$JOBS"
step convert slumbernet "$UNSEEN" recordings-unseen --jobs "$JOBS"
step preprocess slumbernet-paper recordings epochs --jobs "$JOBS"
step preprocess slumbernet-paper recordings-unseen epochs-unseen --jobs "$JOBS"

train_final slumbernet epochs slumbernet --recipe paper
external_test slumbernet epochs-unseen unseen

report
