#!/usr/bin/env bash
# ISRUC-Sleep, subgroup III: Table 3 of the MMASleepNet paper (doi:10.3389/fnins.2022.973761), its
# models as that paper's authors trained them, one subject a fold.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw isruc --subset III
step convert isruc "$DATA" recordings --subset III --jobs "$JOBS"
step preprocess isruc recordings epochs --jobs "$JOBS"

published_folds 10
train mmasleepnet epochs mmasleepnet --recipe authors --set model.eeg=6
train mmasleepnet-paper epochs mmasleepnet --recipe paper --set model.eeg=6
train mmasleepnet-printed epochs mmasleepnet --recipe printed --set model.eeg=6
train mmasleepnet-released epochs mmasleepnet --recipe released --set model.eeg=6
train attnsleep epochs attnsleep --recipe mmasleepnet-isruc
train sleepprintnet epochs sleepprintnet --recipe mmasleepnet-isruc
train salientsleepnet epochs salientsleepnet --recipe mmasleepnet-isruc

report
