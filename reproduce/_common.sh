# shellcheck shell=bash
# Sourced by every script: its settings, and the steps that scripts share. A step is a command of
# sleeptools that is run at once or, with SLURM=1, a job that waits for those before it.
# README.md lists the settings.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=$(basename "$0" .sh)
PROTOCOL=${PROTOCOL:-leak-free,best-on-test}
SEEDS=${SEEDS:-0}
JOBS=${JOBS:-4}
read -ra SBATCH_ALL <<<"${SBATCH:-}"
read -ra SBATCH_TRAINING <<<"${SBATCH_TRAIN:-}"
READY=    # the last job before the trainings
TRAINING= # the jobs of the trainings, with colons
RUNS=()

on() { [ "${!1:-0}" = 1 ]; }

die() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit "${3:-2}"
}

# begin: find the command, make the folder of this script and go there.
begin() {
  local names run
  names=$(sed -n 's/^train \([^ ]*\).*/\1/p' "$0")
  for run in ${MODELS:-}; do
    grep -qxF -- "$run" <<<"$names" || die "MODELS: $NAME has no run $run" "there are: ${names//$'\n'/ }"
  done
  if [ -z "${SLEEPTOOLS:-}" ]; then
    SLEEPTOOLS=$(command -v sleeptools || echo "${HERE%/*}/.venv/bin/sleeptools")
  fi
  SLEEPTOOLS=$(command -v "$SLEEPTOOLS") || die "sleeptools: not found" "SLEEPTOOLS=PATH" 69
  SLEEPTOOLS=$(realpath "$SLEEPTOOLS")
  if [ -n "${DATA:-}" ]; then
    [ -d "$DATA" ] || die "no folder $DATA" "DATA=FOLDER of the raw files" 66
    DATA=$(realpath "$DATA")
  fi
  FOLDER=$(realpath -m "${WORK:-work}/$NAME")
  if on SIMULATE; then FOLDER+=-simulated; fi
  on DRY && return
  mkdir -p "$FOLDER/logs"
  cd "$FOLDER" || exit
}

# raw DATASET OPTIONS...: the raw files: those in DATA, simulated ones, or downloaded ones.
raw() {
  if on SIMULATE; then
    DATA=raw
    step simulate "$1" raw --subjects "${SUBJECTS:-4}" --hours "${HOURS:-0.5}" "${@:2}"
  elif [ -z "${DATA:-}" ]; then
    [ "$1" = sleep-edf ] || die "DATA is not set" \
      "DATA=FOLDER of the raw files (reproduce/README.md says whose); SIMULATE=1 tries it without" 66
    DATA=raw
    run "$SLEEPTOOLS" fetch "$1" raw "${@:2}" # with SLURM=1, too: its nodes may have no network
  fi
}

# step WORDS...: one command of sleeptools, after the steps before it.
step() {
  if on SLURM; then
    READY=$(submit "$1" "$READY" --output="logs/%x-%j.out" -- "$@")
  else
    run "$SLEEPTOOLS" "$@"
  fi
}

# folds NUMBER OPTIONS...: the split of the trainings that follow; two folds of a simulation.
folds() {
  FOLDS=$1
  if on SIMULATE; then FOLDS=2; fi
  SPLIT=(--folds "$FOLDS" "${@:2}")
}

# published_folds NUMBER: the folds of the papers, which exist for their own subjects only.
published_folds() {
  folds "$1"
  on SIMULATE || SPLIT=(--folds-from published)
}

# train RUN EPOCHS MODEL OPTIONS...: every fold of one run, with Slurm a fold a task.
train() {
  if on PREPARE; then return 0; fi
  [[ -z "${MODELS:-}" || " $MODELS " = *" $1 "* ]] || return 0
  local job words=(train "$2" "runs/$1" --model "$3" "${SPLIT[@]}"
    --protocol "$PROTOCOL" --seed "$SEEDS" "${@:4}")
  if on SIMULATE; then
    narrow "$3"
    words+=(--passes "${PASSES:-1}")
  elif [ -n "${PASSES:-}" ]; then
    words+=(--passes "$PASSES")
  fi
  RUNS+=("runs/$1")
  if on SLURM; then
    job=$(submit "$1" "$READY" --array="${ARRAY:-0-$((FOLDS - 1))}" --output="logs/%x-%A_%a.out" \
      "${SBATCH_TRAINING[@]}" -- "${words[@]}")
    TRAINING+=${TRAINING:+:}$job
  else
    run "$SLEEPTOOLS" "${words[@]}"
  fi
}

# unseen: the subjects that nothing is trained on: those that UNSEEN names, or simulated mice.
unseen() {
  if on SIMULATE; then
    UNSEEN=mouse-01,mouse-02,mouse-03
  elif [ -z "${UNSEEN:-}" ]; then
    die "UNSEEN is not set" "UNSEEN=m10,m11,m12 names the subjects that are only tested" 66
  fi
}

# train_final RUN EPOCHS MODEL OPTIONS...: one model on all subjects but those that UNSEEN names,
# which it is tested on.
train_final() {
  if on PREPARE; then return 0; fi
  local words=(train "$2" "runs/$1" --model "$3" --final --hold-out "$UNSEEN"
    --seed "${SEEDS%%,*}" "${@:4}")
  if on SIMULATE; then
    narrow "$3"
    words+=(--passes "${PASSES:-1}")
  elif [ -n "${PASSES:-}" ]; then
    words+=(--passes "$PASSES")
  fi
  RUNS+=("runs/$1")
  if on SLURM; then
    TRAINING=$(submit "$1" "$READY" --output="logs/%x-%j.out" "${SBATCH_TRAINING[@]}" -- "${words[@]}")
  else
    run "$SLEEPTOOLS" "${words[@]}"
  fi
}

# narrow MODEL: make a heavy model small, or a batch of human epochs, as a simulation has few.
narrow() {
  case $1 in
    salientsleepnet) words+=(--set model.sequence=11 --set model.filters=4) ;;
    slumbernet) words+=(--set model.blocks=5 --set model.filters=2) ;;
    mouse-transformer) words+=(--set model.layers=1) ;;
    mouse-*) ;;
    *) words+=(--set recipe.batch=32) ;;
  esac
}

# report: the numbers and the page of all runs, once every fold is there.
report() {
  if on PREPARE || on TRAIN; then return 0; fi
  READY=$TRAINING
  step evaluate "${RUNS[@]}"
  step report "${RUNS[@]}" --out report.html
  echo "report: $FOLDER/report.html${READY:+, once job $READY is done; logs in $FOLDER/logs}"
}

# submit NAME AFTER OPTIONS... -- WORDS...: a job once others have ended well; prints its number.
# USR1 comes two minutes before the time limit, so that a checkpoint is written.
submit() {
  local after=$2 options=(--parsable --job-name="$NAME-$1" --requeue --open-mode=append
    --signal=B:USR1@120 --kill-on-invalid-dep=yes "${SBATCH_ALL[@]}")
  shift 2
  if [ -n "$after" ]; then options+=(--dependency="afterok:$after"); fi
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  run sbatch "${options[@]}" "$HERE/_task.sh" "$SLEEPTOOLS" "${@:2}"
}

# run WORDS...: say a command, and run it unless DRY=1.
run() {
  printf '+%s\n' "$(printf ' %q' "$@")" >&2
  if ! on DRY; then "$@"; elif [ "$1" = sbatch ]; then echo JOB; fi
}

begin
