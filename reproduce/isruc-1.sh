#!/usr/bin/env bash
# ISRUC-Sleep, subgroup I: Table 3 of the MMASleepNet paper (doi:10.3389/fnins.2022.973761), its
# models as that paper's authors trained them. The paper's five folds were never released.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

raw isruc --subset I
step convert isruc "$DATA" recordings --subset I --jobs "$JOBS"
step preprocess isruc recordings epochs --jobs "$JOBS"

folds 5
train mmasleepnet epochs mmasleepnet --recipe authors --set model.eeg=6
train mmasleepnet-paper epochs mmasleepnet --recipe paper --set model.eeg=6
train mmasleepnet-printed epochs mmasleepnet --recipe printed --set model.eeg=6
train mmasleepnet-released epochs mmasleepnet --recipe released --set model.eeg=6
train attnsleep epochs attnsleep --recipe mmasleepnet-isruc
train sleepprintnet epochs sleepprintnet --recipe mmasleepnet-isruc
train salientsleepnet epochs salientsleepnet --recipe mmasleepnet-isruc

report
