"""The text of a plan's job scripts: slurm.sh, which trains, and report.sh, which comes after it.

They are written to be read and changed by hand. Paths and words are quoted for the shell, and on
the #SBATCH lines as Slurm reads them: in double quotes, within which a backslash goes before a
double quote or another backslash.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sleeptools.runs.slurm_settings import SlurmSettings

SCRIPT: Final = "slurm.sh"
REPORT_SCRIPT: Final = "report.sh"

TRAIN: Final = """\
# {tasks} tasks of {folder}, {pack} of them an element of the array; tasks.csv beside this lists
# them. Made by 'sleeptools train --plan', submitted by '--submit', or by hand:
{by_hand}
# What is done is skipped, so that elements can be submitted again: 'sleeptools status' says which.
set -uo pipefail
cd {work} || exit 66
element=$((${{1:-0}} + SLURM_ARRAY_TASK_ID)) # $1: where this array begins, if it was split
first=$((element * {pack})) last=$((element * {pack} + {pack} - 1))
if [ "$last" -gt {last} ]; then last={last}; fi
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID # the number alone would mean the whole array
{setup}
# At USR1 (the time limit is near, or a more urgent job wants the node) sleeptools writes a
# checkpoint and ends with 75; the job then queues itself again and continues. At TERM it ends the
# same way, but whoever sent it decides whether the job comes back: Slurm after a preemption, nobody
# after scancel.
caught=
again=
trap 'caught=yes again=yes; kill -USR1 "$child"' USR1
trap 'caught=yes; kill -TERM "$child"' TERM

# in the background, because bash lets a signal wait until a command in the foreground has ended
{command} train {epochs} {run} --task "$first-$last"{devices} &
child=$!
while
  caught=
  wait "$child"
  code=$?
  [ -n "$caught" ] # it was the signal that ended the waiting
do :; done
trap - USR1 TERM

echo "$job, restart ${{SLURM_RESTART_COUNT:-0}}: exit code $code"
# 138: killed by USR1 before it could listen
if [ -n "$again" ] && {{ [ "$code" = 75 ] || [ "$code" = 138 ]; }}; then
  scontrol requeue "$job" && sleep 60 # Slurm ends this script
fi
exit "$code"
"""

REPORT: Final = """\
# Evaluation and report of {folder}, once all its tasks are done. Made by 'sleeptools train --plan'.
set -euo pipefail
cd {work}
{setup}{command} evaluate {runs}
{command} report {runs} --out {out} --force  # an earlier one may be of fewer runs
"""


@dataclass(frozen=True)
class ScriptFacts:
    """What both scripts are made of.

    Parameters
    ----------
    epochs, run
        Arguments of the training.
    plan
        Folder of the scripts.
    name
        Name of the job where the settings have none.
    settings
        The table [slurm].
    """

    epochs: Path
    run: Path
    plan: Path
    name: str
    settings: SlurmSettings

    def head(
        self, log: str, options: Sequence[tuple[str, object]], directives: Sequence[str]
    ) -> str:
        """Write the #SBATCH lines; an option without a value is left out."""
        slurm = self.settings
        lines: list[tuple[str, object]] = [
            ("job-name", slurm.job_name or self.name),
            ("partition", slurm.partition),
            ("account", slurm.account),
            ("qos", slurm.qos),
            *options,
            ("output", f"{pattern_text((self.plan / 'logs').absolute())}/{log}"),
        ]
        texts = [f"--{name}={header_value(str(value))}" for name, value in lines if value]
        return "#!/usr/bin/env bash\n" + "".join(
            f"#SBATCH {line}\n" for line in [*texts, *directives]
        )

    @property
    def words(self) -> dict[str, str]:
        """What stands in both bodies."""
        slurm = self.settings
        command = list(slurm.command) or (["sleeptools"] if slurm.container else own_command())
        if slurm.container:
            devices = (
                ["--nv"]
                if "gpu" in slurm.gres and slurm.container_command[-1:] == ("exec",)
                else []
            )
            command = [*slurm.container_command, *devices, slurm.container, *command]
        return {
            "folder": one_line(self.run),
            "work": quoted(Path.cwd()),
            "setup": "".join(f"{line}\n" for line in slurm.setup),
            "command": shlex.join(command),
            "epochs": quoted(self.epochs),
            "run": quoted(self.run),
        }


def train_script(
    facts: ScriptFacts,
    *,
    tasks: int,
    pack: int,
    arrays: Sequence[tuple[int, str]],
    devices: int = 1,
) -> str:
    """Write slurm.sh.

    Parameters
    ----------
    tasks
        Number of tasks in the table.
    pack
        Tasks of one element of the array.
    arrays
        Arrays to submit: the element at which each begins, and its indices, with the throttle.
    devices
        Devices that train a task together.
    """
    slurm = facts.settings
    options = [
        ("constraint", slurm.constraint),
        ("time", slurm.time),
        ("cpus-per-task", slurm.cpus_per_task),
        ("mem", slurm.memory),
        ("gres", slurm.gres),
        ("array", arrays[0][1]),
        ("signal", f"B:USR1@{slurm.signal_seconds}"),
    ]
    directives = ["--requeue", "--open-mode=append", *slurm.options]
    script = quoted((facts.plan / SCRIPT).absolute())
    by_hand = [f"sbatch --array={array} {script} {offset or ''}" for offset, array in arrays]
    comment = "\n".join(f"#   {one_line(line.rstrip())}" for line in by_hand)
    return facts.head("%A_%a.out", options, directives) + TRAIN.format(
        tasks=tasks,
        pack=pack,
        last=tasks - 1,
        by_hand=comment,
        devices=f" --devices {devices}" if devices > 1 else "",
        **facts.words,
    )


def report_script(facts: ScriptFacts, runs: Sequence[Path], out: Path) -> str:
    """Write report.sh, for the runs that test anybody."""
    directives = ["--kill-on-invalid-dep=yes", *facts.settings.report_options]
    words = {**facts.words, "runs": " ".join(map(quoted, runs)), "out": quoted(out)}
    return facts.head(
        "report-%j.out", [("mem", facts.settings.memory)], directives
    ) + REPORT.format(**words)


def own_command() -> list[str]:
    """Tell how this program is called from anywhere."""
    program = shutil.which(sys.argv[0]) or ""
    if Path(program).name == "sleeptools":
        return [str(Path(program).absolute())]
    beside = Path(sys.executable).with_name("sleeptools")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "sleeptools.cli"]


def quoted(path: Path) -> str:
    """Quote a path for the shell, so that it is never taken for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def header_value(text: str) -> str:
    """Quote a value for an #SBATCH line."""
    if re.fullmatch(r"[\w@%+=:,./~-]+", text):
        return text
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{escaped}"'


def pattern_text(path: Path) -> str:
    """Write a path into the pattern of a log's name.

    Raises
    ------
    UsageError
        For a path with a line break, which no #SBATCH line can hold, or with a backslash, at which
        Slurm takes the pattern for a plain name.
    """
    from sleeptools.errors import UsageError

    text = str(path)
    if not text.isprintable() or "\\" in text:
        raise UsageError(f"{text!r}: a job script cannot hold this path", hint="rename the folder")
    return text.replace("%", "%%")


def one_line(value: object) -> str:
    """Write something into a comment."""
    return "".join(c if c.isprintable() else "?" for c in str(value))
