#!/usr/bin/env bash
# SlumberNet on mice that nothing was trained on: Table 3, Figure 5 and the time of scoring of its
# paper (doi:10.1038/s41598-024-54727-0). DATA is a folder with the files of all mice, and UNSEEN
# names those that are only tested. Nothing chooses the pass: the last one is tested, as in the paper.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw slumbernet
unseen
step convert slumbernet "$DATA" recordings --jobs "$JOBS"
step preprocess slumbernet-paper recordings epochs --jobs "$JOBS"

train_final slumbernet epochs slumbernet --recipe paper

report
