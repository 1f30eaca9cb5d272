#!/usr/bin/env bash
# Sleep-EDF-78: Table 3 of the MMASleepNet paper (doi:10.3389/fnins.2022.973761), its models as that
# paper's authors trained them, and MASleepNet (doi:10.3390/biomimetics10100642).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw sleep-edf --subset 78
step convert sleep-edf "$DATA" recordings --subset 78 --jobs "$JOBS"
step preprocess sleep-edf recordings epochs --jobs "$JOBS"

published_folds 10
train mmasleepnet epochs mmasleepnet --recipe authors
train mmasleepnet-paper epochs mmasleepnet --recipe paper
train mmasleepnet-printed epochs mmasleepnet --recipe printed
train mmasleepnet-released epochs mmasleepnet --recipe released
train attnsleep epochs attnsleep --recipe mmasleepnet
train sleepprintnet epochs sleepprintnet --recipe mmasleepnet
train salientsleepnet epochs salientsleepnet --recipe mmasleepnet
train masleepnet epochs masleepnet

report
