"""The table [slurm] of the settings: what a cluster wants to be told of a job."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sleeptools.store import settings

SIGNAL_SECONDS = 120
"""Before the time limit; a checkpoint takes a second, a node that swaps much longer."""


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("expected a text of one line")
    return value


def _time_text(value: object) -> object:
    """Take a duration that TOML reads as a time of day, such as 08:00:00."""
    return value.isoformat() if isinstance(value, datetime.time) else value


def _texts(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Line = Annotated[str, AfterValidator(_one_line)]
Lines = Annotated[tuple[Line, ...], BeforeValidator(_texts)]


class SlurmSettings(BaseModel):
    """Settings of the jobs of a plan; what is empty is the cluster's own choice.

    Parameters
    ----------
    job_name
        Name of the job; the run's if empty.
    partition, account, qos, constraint
        As `sbatch` takes them; all but the constraint also for the report's job.
    time
        Time limit of a task, as Slurm writes it: "8:00:00", "2-0", or minutes.
    cpus_per_task
        CPU cores, which are the threads, too.
    memory
        Memory of a task, such as "16G".
    gres
        Devices, such as "gpu:1".
    throttle
        Tasks that run at once at most; None for as many as the cluster gives.
    signal_seconds
        How long before the time limit a task is told to write its checkpoint, s.
    max_array_size
        Slurm's MaxArraySize; None to ask Slurm, and 1001, its default, where there is none.
    setup
        Lines of shell before the command, such as "module load cuda".
    container
        Image to run in; `sleeptools` is then the one in it.
    container_command
        What runs a command in an image.
    command
        The program; None for the one that plans.
    options
        Further options of `sbatch` for the tasks, each a text with its dashes.
    report_options
        The same for the job of evaluation and report.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    job_name: Line = ""
    partition: Line = ""
    account: Line = ""
    qos: Line = ""
    constraint: Line = ""
    time: Annotated[Line, BeforeValidator(_time_text)] = ""
    cpus_per_task: int | None = Field(None, ge=1)
    memory: Line = ""
    gres: Line = ""
    throttle: int | None = Field(None, ge=1)
    signal_seconds: int = Field(SIGNAL_SECONDS, ge=1, le=65535)
    max_array_size: int | None = Field(None, ge=2)
    setup: Lines = ()
    container: Line = ""
    container_command: Lines = ("apptainer", "exec")
    command: Lines = ()
    options: Lines = ()
    report_options: Lines = ()


def read_slurm_settings(config: Path | None, assignments: Iterable[str] = ()) -> SlurmSettings:
    """Read the table [slurm] of a settings file, and settings "slurm.NAME=VALUE" over it.

    Raises
    ------
    UsageError
        For an unknown setting, or a value of the wrong kind.
    MissingInputError, DataError
        If the file does not exist or is not TOML.
    """
    values = settings.read_settings(config, assignments)
    return slurm_settings(settings.settings_table(values, "slurm"))


def slurm_settings(table: Mapping[str, Any]) -> SlurmSettings:
    """Check a table [slurm]. Raises as `read_slurm_settings`."""
    return settings.resolve(SlurmSettings, table, section="slurm")
