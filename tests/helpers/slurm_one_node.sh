#!/usr/bin/env bash
# One-node Slurm (slurmctld, slurmd, munged) on loopback, in one private folder, for tests.
#   slurm_one_node.sh up DIR     start; prints the lines to export
#   slurm_one_node.sh down DIR   stop, and only what it has started
# Needs Debian's packages munge and slurm-wlm, touches neither /etc nor /var, needs no root.
# Partitions: low, whose jobs are requeued ten seconds after one of high wants the node.
set -euo pipefail
cmd=${1:-}
DIR=${2:-}
PATH=$PATH:/usr/sbin:/sbin
NODE=$(hostname -s)
ME=$(id -un)

die() { echo "slurm_one_node: error: $*" >&2; exit 1; }

start_time() { awk '{sub(/.*\) /,""); print $20}' "/proc/$1/stat" 2>/dev/null; }

record() { echo "$2 $(start_time "$2") $1" >> "$DIR/pids"; }

# alive PID START NAME: it is still the same process; Debian's programs end in -wlm
alive() {
  [ -n "$2" ] && [ "$(start_time "$1")" = "$2" ] || return 1
  case $(basename "$(readlink -f "/proc/$1/exe")") in "$3" | "$3-wlm") return 0 ;; esac
  return 1
}

ended() { [ ! -e "/proc/$1" ] || grep -q 'State:.Z' "/proc/$1/status"; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# wait_for SECONDS COMMAND...
wait_for() {
  local n=$(($1 * 10))
  shift
  for ((i = 0; i < n; i++)); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  return 1
}

idle() { sinfo -h -p low -o %T | grep -qx idle; }

no_jobs() { [ -z "$(squeue -h -t R,CG)" ]; }

configure() {
  local cpus memory
  cpus=$(slurmd -C | sed -n 's/.*CPUs=\([0-9]*\).*/\1/p' | head -1)
  memory=$(slurmd -C | sed -n 's/.*RealMemory=\([0-9]*\).*/\1/p' | head -1)
  cat > "$DIR/slurm.conf" <<C
ClusterName=onenode
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=$ME
SlurmdUser=$ME
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$DIR/munge.sock
CredType=cred/munge
# the daemons listen on loopback only
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.log
PlugStackConfig=$DIR/plugstack.conf
# no cgroups, no accounting
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$DIR/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# a preempted job gets the signal of its --signal, not only SIGTERM
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=30
MinJobAge=600
ReturnToService=2
MessageTimeout=5
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=low  Nodes=$NODE Default=YES MaxTime=60 DefaultTime=30 PriorityTier=1  GraceTime=10 PreemptMode=REQUEUE State=UP
PartitionName=high Nodes=$NODE Default=NO  MaxTime=60 DefaultTime=30 PriorityTier=10 PreemptMode=OFF State=UP
C
  : > "$DIR/plugstack.conf"
  printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\n' > "$DIR/cgroup.conf"
}

up() {
  for program in munged mungekey slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || die "$program not found: apt-get install -y munge slurm-wlm"
  done
  [ ! -e "$DIR/pids" ] || die "$DIR/pids exists: run '$0 down $DIR' first"
  umask 022
  mkdir -p "$DIR"/{state,spool,log}
  DIR=$(readlink -f "$DIR")
  trap 'tail -n 5 "$DIR"/log/* >&2; down >&2; exit 1' ERR
  : > "$DIR/pids"
  [ -s "$DIR/munge.key" ] || mungekey --create --keyfile="$DIR/munge.key"
  chmod 600 "$DIR/munge.key"
  configure
  export SLURM_CONF=$DIR/slurm.conf
  local force=()
  [ "$(id -u)" != 0 ] || force=(--force)
  setsid munged --foreground "${force[@]}" --key-file="$DIR/munge.key" --socket="$DIR/munge.sock" \
    --pid-file="$DIR/munged.pid" --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge.seed" \
    --num-threads=2 </dev/null >>"$DIR/log/munged.out" 2>&1 &
  record munged $!
  wait_for 10 munge -S "$DIR/munge.sock" -n
  setsid slurmctld -D -i -f "$SLURM_CONF" </dev/null >>"$DIR/log/slurmctld.out" 2>&1 &
  record slurmctld $!
  setsid slurmd -D -N "$NODE" -f "$SLURM_CONF" </dev/null >>"$DIR/log/slurmd.out" 2>&1 &
  record slurmd $!
  wait_for 30 scontrol ping
  wait_for 30 idle
  trap - ERR
  echo "export SLURM_CONF=$DIR/slurm.conf MUNGE_SOCKET=$DIR/munge.sock"
}

down() {
  trap - ERR
  [ -f "$DIR/pids" ] || return 0
  DIR=$(readlink -f "$DIR")
  export SLURM_CONF=$DIR/slurm.conf
  if timeout 5 scontrol ping >/dev/null 2>&1; then
    timeout 10 scancel -u "$ME" || true
    wait_for 20 no_jobs || true
  fi
  tac "$DIR/pids" | while read -r pid start name; do
    alive "$pid" "$start" "$name" || continue
    kill -TERM "$pid"
    wait_for 10 ended "$pid" || ! alive "$pid" "$start" "$name" || kill -KILL "$pid"
  done
  rm -f "$DIR/pids"
}

[ -n "$DIR" ] || cmd=
case $cmd in up) up ;; down) down ;; *) sed -n '2,6p' "$0"; exit 2 ;; esac
