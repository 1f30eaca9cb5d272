#!/usr/bin/env bash
# What a job of a script runs: the command given, in an array with the task's number as its fold.
# At USR1 (the time limit is near, or a more urgent job wants the node) sleeptools writes a checkpoint
# and ends with 75; the job then queues itself again and continues. At TERM it ends the same way, but
# whoever sent it decides whether the job comes back: Slurm after a preemption, nobody after scancel.
set -uo pipefail

words=("$@")
job=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  words+=(--fold "$SLURM_ARRAY_TASK_ID")
  job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # the number alone would mean the whole array
fi

caught=
again=
trap 'caught=yes again=yes; kill -USR1 "$child"' USR1
trap 'caught=yes; kill -TERM "$child"' TERM

# in the background, because bash lets a signal wait until a command in the foreground has ended
"${words[@]}" &
child=$!
while
  caught=
  wait "$child"
  code=$?
  [ -n "$caught" ] # it was the signal that ended the waiting
do :; done
trap - USR1 TERM

echo "$job, restart ${SLURM_RESTART_COUNT:-0}: exit code $code"
# 138: killed by USR1 before it could listen
if [ -n "$again" ] && { [ "$code" = 75 ] || [ "$code" = 138 ]; }; then
  scontrol requeue "$job" && sleep 60 # Slurm ends this script
fi
exit "$code"
