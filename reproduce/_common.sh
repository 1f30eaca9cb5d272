# shellcheck shell=bash
# Sourced by every script: its settings, and the steps that scripts share. A step is a command of
# sleeptools that is run at once or, with SLURM=1, a job; the trainings are planned and submitted by
# 'sleeptools train --submit' (docs/cluster.md).
# README.md lists the settings.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=$(basename "$0" .sh)
PROTOCOL=${PROTOCOL:-leak-free,best-on-test}
SEEDS=${SEEDS:-0}
JOBS=${JOBS:-4}
read -ra SBATCH_ALL <<<"${SBATCH:-}"
read -ra SBATCH_TRAINING <<<"${SBATCH_TRAIN:-}"
WAITING= # jobs that must have ended well before the report, with colons
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

# step WORDS...: one command of sleeptools, after the steps before it; one that has to wait for
# trainings becomes a job of which nobody waits for the end.
step() {
  if on SLURM; then
    local job options=(--parsable --job-name="$NAME-$1" --output="logs/%x-%j.out" "${SBATCH_ALL[@]}")
    if [ -n "$WAITING" ]; then
      options+=(--dependency="afterok:$WAITING" --kill-on-invalid-dep=yes)
    else
      options+=(--wait)
    fi
    job=$(run sbatch "${options[@]}" "$HERE/_step.sh" "$SLEEPTOOLS" "$@")
    if [ -n "$WAITING" ]; then WAITING=$job; fi
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

# train RUN EPOCHS MODEL OPTIONS...: every fold of one run; with Slurm every fold, seed and protocol
# a task.
train() {
  trained "$1" train "$2" "runs/$1" --model "$3" "${SPLIT[@]}" --protocol "$PROTOCOL" \
    --seed "$SEEDS" "${@:4}"
}

# trained RUN WORDS...: the training of a run, of which MODELS, PASSES and SIMULATE choose how much.
trained() {
  if on PREPARE; then return 0; fi
  [[ -z "${MODELS:-}" || " $MODELS " = *" $1 "* ]] || return 0
  local said job code words=("${@:2}")
  if on SIMULATE; then
    narrow "${words[4]}"
    words+=(--passes "${PASSES:-1}")
  elif [ -n "${PASSES:-}" ]; then
    words+=(--passes "$PASSES")
  fi
  RUNS+=("runs/$1")
  if on SLURM; then
    said=$(run "$SLEEPTOOLS" "${words[@]}" --submit --set "slurm.job_name=$NAME-$1" \
      --set "slurm.options=$(listed "${SBATCH_ALL[@]}" "${SBATCH_TRAINING[@]}")" \
      --set "slurm.report_options=$(listed "${SBATCH_ALL[@]}")" 2>&1) || {
      code=$?
      printf '%s\n' "$said" >&2
      exit "$code"
    }
    printf '%s\n' "$said" >&2
    # the last job of a run: its evaluation, or of a final model its training
    job=$(sed -n 's/^job \([0-9]*\): .*/\1/p' <<<"$said" | tail -n 1)
    if on DRY; then job=JOB; fi
    if [ -n "$job" ]; then WAITING+=${WAITING:+:}$job; fi
  else
    run "$SLEEPTOOLS" "${words[@]}"
  fi
}

# listed WORDS...: options of sbatch as a list in TOML; a word that is no option belongs to the one
# before it.
listed() {
  local word options=()
  for word in "$@"; do
    if [[ "$word" = -* || ${#options[@]} = 0 ]]; then
      options+=("$word")
    else
      options[-1]+=" $word"
    fi
  done
  local text
  printf -v text '"%s",' "${options[@]//\"/\\\"}"
  if [ ${#options[@]} = 0 ]; then text=; fi
  printf '[%s]' "$text"
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
  trained "$1" train "$2" "runs/$1" --model "$3" --final --hold-out "$UNSEEN" \
    --seed "${SEEDS%%,*}" "${@:4}"
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
  step evaluate "${RUNS[@]}"
  step report "${RUNS[@]}" --out report.html --force # an earlier one may be of fewer runs
  echo "report: $FOLDER/report.html${WAITING:+, once job $WAITING is done; logs in $FOLDER/logs}"
}

# run WORDS...: say a command, and run it unless DRY=1.
run() {
  printf '+%s\n' "$(printf ' %q' "$@")" >&2
  if ! on DRY; then "$@"; elif [ "$1" = sbatch ]; then echo JOB; fi
}

begin
