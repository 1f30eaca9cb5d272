#!/usr/bin/env bash
# One table or figure of the papers, by its name in 'sleeptools list published':
#   SIMULATE=1 reproduce/item.sh s0-table-3
# It runs the scripts beside this one as far as the item needs them, then draws ours in the paper's
# arrangement and beside the printed numbers, in work/item/ITEM. What is there already is not made
# again. DATA is the folder of the raw files where the item needs one data set; where it needs
# several, DATA_SLEEP_EDF and DATA_ISRUC are. PHASES is a table of the phases of the days of mice.
set -euo pipefail
item=${1:?"name an item, for example s0-table-3"}
MODELS=
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

on SLURM && die "SLURM: an item is drawn once its runs are there" \
  "run the scripts that README.md names for $item with SLURM=1, then this one without"
WORK=${FOLDER%/*}
SUFFIX=${FOLDER##*/item}
SOURCES=()

# need SCRIPT [RUN...]: run a script, for these runs only where some are named.
need() {
  local data=
  case $1 in
    isruc*) data=${DATA_ISRUC:-} ;;
    sleep-edf* | ablations | ulw | masleepnet* | slumbernet-people) data=${DATA_SLEEP_EDF:-} ;;
  esac
  TRAIN=1 WORK=$WORK DATA=${data:-${DATA:-}} MODELS=${*:2} "$HERE/$1.sh" >&2
}

# epochs SCRIPT: run a script as far as its epochs.
epochs() { PREPARE=1 need "$1"; }

# take SCRIPT PATH [ROW]: a folder of a script's feeds the item, in a row that is named.
take() { SOURCES+=("${3:+$3=}$WORK/$1$SUFFIX/$2"); }

# of_sets MODEL...: the runs of models on all four data sets of MMASleepNet's paper.
of_sets() {
  local script model
  for script in sleep-edf-20 sleep-edf-78 isruc-1 isruc-3; do
    need "$script" "$@"
    for model in "$@"; do take "$script" "runs/$model" "${ROWS[$script]}"; done
  done
}

declare -A ROWS=([sleep-edf-20]=Sleep-EDF-20 [sleep-edf-78]=Sleep-EDF-78
  [isruc-1]=ISRUC-Sleep-1 [isruc-3]=ISRUC-Sleep-3)
OPTIONS=()

case $item in
  s0-fig-1)
    epochs sleep-edf-78
    take sleep-edf-78 epochs
    ;;
  s0-table-1)
    for script in "${!ROWS[@]}"; do
      epochs "$script"
      take "$script" epochs "${ROWS[$script]}"
    done
    ;;
  s0-table-3) of_sets attnsleep sleepprintnet salientsleepnet mmasleepnet ;;
  s0-fig-3) of_sets mmasleepnet ;;
  s0-fig-4a | s0-fig-4b)
    need ablations
    variants=(mbfe mbfe+te all)
    [ "$item" = s0-fig-4a ] || variants=(eeg eeg+eog all)
    for variant in "${variants[@]}"; do take ablations "runs/ablations/$variant" Sleep-EDF-20; done
    ;;
  s0-fig-5)
    need sleep-edf-20 mmasleepnet
    take sleep-edf-20 runs/mmasleepnet
    ;;
  s0-training-hours)
    models=(attnsleep sleepprintnet salientsleepnet mmasleepnet)
    need sleep-edf-20 "${models[@]}"
    for model in "${models[@]}"; do take sleep-edf-20 "runs/$model"; done
    ;;
  s1-accuracies)
    for script in sleep-edf-20 sleep-edf-78; do
      need "$script" masleepnet
      take "$script" runs/masleepnet "${ROWS[$script]}"
    done
    ;;
  s1-figures)
    need masleepnet-ablations
    for variant in no-msconv eeg no-se all; do
      take masleepnet-ablations "runs/ablations/$variant" Sleep-EDF-20
    done
    ;;
  s3-headline | s3-tables)
    need ulw
    take ulw runs/ulw-20 Sleep-EDF-20
    take ulw runs/ulw-78 Sleep-EDF-78
    ;;
  s2-fig-1 | s2-fig-2)
    need mouse slumbernet
    take mouse runs/slumbernet
    ;;
  s2-fig-3)
    epochs mouse
    take mouse epochs
    ;;
  s2-fig-4 | s2-fig-5 | s2-fig-6)
    need mouse mouse-cnn
    take mouse runs/mouse-cnn
    ;;
  s2-fig-7 | s2-fig-8)
    need mouse mouse-cnn-attention
    take mouse runs/mouse-cnn-attention
    ;;
  s2-transformer)
    need mouse mouse-transformer
    take mouse runs/mouse-transformer
    ;;
  s2-table-i)
    models=(mouse-cnn mouse-cnn-attention mouse-transformer)
    need mouse "${models[@]}"
    for model in "${models[@]}"; do take mouse "runs/$model"; done
    ;;
  s4-fig-2a | s4-fig-2b)
    epochs slumbernet
    take slumbernet epochs
    OPTIONS+=(--recordings "$WORK/slumbernet$SUFFIX/recordings")
    ;;
  s4-fig-4? | s4-table-1 | s4-table-2 | s4-table-s1)
    need slumbernet slumbernet-authors
    take slumbernet runs/slumbernet-authors
    ;;
  s4-fig-5? | s4-table-3 | s4-scoring-time)
    need slumbernet-unseen
    take slumbernet-unseen runs/slumbernet
    [ -z "${PHASES:-}" ] || OPTIONS+=(--phases "$PHASES")
    ;;
  s4-fig-6)
    need slumbernet-people
    take slumbernet-people runs/slumbernet
    ;;
esac # of the others the print, or the model alone, is all there is

run "$SLEEPTOOLS" report --published "$item" "${SOURCES[@]}" "${OPTIONS[@]}" --out "$FOLDER/$item"
