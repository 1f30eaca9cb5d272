"""A run folder as its readers see it: settings, folds, and which trainings are done.

`train` writes it through `writing`; `evaluate`, `report` and `status` read it through here and
through `predictions`, `logs` and `nights`. Everything is checked on reading, so that a number in a
table can be traced to files that fit together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleeptools import store
from sleeptools.errors import DataError, quoted
from sleeptools.runs.folds import BEST_ON_TEST, EXTERNAL, HELD_OUT, MIXED, SHUFFLED
from sleeptools.store import settings

if TYPE_CHECKING:
    import polars as pl

RUN_KIND = "sleeptools-run"
RUN_VERSION = 1
FINAL = "final"
"""Folder of the model trained on all subjects, and its protocol."""
STATE = "state.safetensors"
"""The checkpoint of an unfinished training."""
LAST_STATE = "last.safetensors"
"""The checkpoint after the last pass of a finished training, from which another run continues."""
EXPLAIN = "explain.safetensors"
"""Features and modality weights of a fold's test epochs; optional."""
CONFIG_FILE, FOLDS_FILE = "config.toml", "folds.parquet"
PREDICTIONS_FILE = "predictions.parquet"
PLAN_FOLDER = "plan"
"""Folder of the tasks of a run that was planned for a cluster (`task_table`)."""
FOLDS_EPOCHS = "folds_epochs.parquet"
"""Which epochs validate and are tested, where epochs and not subjects are divided into folds."""


@dataclass(frozen=True, order=True)
class TrainingId:
    """One training of a run: a fold under a protocol with a seed."""

    protocol: str
    seed: int
    fold: int

    def folder(self, run: Path) -> Path:
        """Folder of its files in a run."""
        return run / self.protocol / f"seed-{self.seed}" / f"fold-{self.fold:02d}"

    def __str__(self) -> str:
        return f"{self.protocol}/seed-{self.seed}/fold-{self.fold:02d}"


@dataclass(frozen=True)
class Run:
    """A run folder.

    Parameters
    ----------
    folder
        Path of the run.
    config
        Content of `config.toml`: model, folds, protocols, seeds, recipe.
    facts
        Content of `manifest.json`, empty while the run is unfinished.
    folds
        Table protocol, fold, subject, role; "mixed" for a subject whose epochs have several.
    done, missing
        Trainings with and without predictions, sorted.
    """

    folder: Path
    config: dict[str, Any] = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    folds: pl.DataFrame = field(repr=False)
    done: tuple[TrainingId, ...] = field(repr=False)
    missing: tuple[TrainingId, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def model(self) -> str:
        """Name of the model, as on the command line."""
        return str(model_table(self.config).get("name", self.facts.get("model", "unknown")))

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the model, without its name."""
        return {k: v for k, v in model_table(self.config).items() if k != "name"}

    @property
    def recipe(self) -> dict[str, Any]:
        """Table [recipe] of config.toml: how the model was trained."""
        return settings.settings_table(self.config, "recipe")

    def check_listed(self, path: Path) -> Path:
        """Return a file of the run after a comparison with the manifest, where that lists it.

        Raises
        ------
        DataError
            If the file is not the one that `train` wrote.
        """
        listed = self.facts.get("files", {}).get(str(path.relative_to(self.folder)))
        store.check_hash(path, listed)
        return path

    def unchosen(self, protocol: str) -> tuple[int, ...]:
        """Folds of a protocol in which nothing selects the pass, so that the last one is kept."""
        if protocol in {BEST_ON_TEST, EXTERNAL}:
            return ()
        import polars as pl

        folds = self.folds.filter(pl.col("protocol") == protocol)
        validated = set(folds.filter(pl.col("role").is_in(["val", MIXED]))["fold"])
        free = self.recipe.get("selection") == "last"
        return tuple(f for f in sorted(set(folds["fold"])) if free or f not in validated)

    def count(self, protocol: str, seed: int) -> int:
        """Count the folds of a protocol and seed that are done."""
        return sum((t.protocol, t.seed) == (protocol, seed) for t in self.done)

    @cached_property
    def species(self) -> str:
        """Whose sleep it is: "human", or "mouse" where the stages are those of mice."""
        return "mouse" if "NREM" in self.stages else "human"

    @property
    def subject_noun(self) -> str:
        """What a subject is called: "subject", or "animal" in runs of mice."""
        return "animal" if self.species == "mouse" else "subject"

    @property
    def unseen(self) -> tuple[str, ...]:
        """Subjects that are held out of every training, sorted; empty in most runs."""
        return tuple(map(str, self.config.get("hold_out", ())))

    @property
    def leaky(self) -> bool:
        """Whether subjects train and are tested at once, by request."""
        return any(f.get("leaky") for f in (self.config, self.facts, self.model_facts))

    @property
    def mixed(self) -> bool:
        """Whether epochs and not subjects were divided into folds."""
        return MIXED in self.folds["role"]

    @property
    def overlapping(self) -> bool:
        """Whether an epoch may be tested in several folds, as in shuffled splits."""
        return any(f.get("split") == SHUFFLED for f in (self.config, self.facts, self.model_facts))

    @cached_property
    def held_out(self) -> pl.DataFrame:
        """Table protocol, fold, recording, epoch, role of the epochs that do not train, if mixed.

        Raises
        ------
        DataError
            If the file lacks a column, or gives an epoch two roles in one fold.
        """
        path, columns = (
            self.folder / FOLDS_EPOCHS,
            ["protocol", "fold", "recording", "epoch", "role"],
        )
        table = store.read_table(path)
        if lacking := set(columns) - set(table.columns):
            raise DataError(
                f"{path}: lacks column {', '.join(sorted(lacking))}", code="TAB-COLUMNS"
            )
        if len(table) != len(table.unique(columns[:-1])):
            raise DataError(f"{path}: an epoch has two roles in one fold", code="RUN-FOLDS")
        return table

    @property
    def data(self) -> dict[str, Any]:
        """Facts of the epochs' manifest; empty if unknown."""
        facts = self.facts.get("data", self.model_facts.get("preprocessing"))
        return facts if isinstance(facts, dict) else {}

    @cached_property
    def model_facts(self) -> dict[str, Any]:
        """`config.json` of the first model, which describes the data until there is a manifest."""
        path = self.done[0].folder(self.folder) / "config.json"
        facts = store.read_json(path) if path.exists() else {}
        return facts if isinstance(facts, dict) else {}

    @property
    def preset(self) -> dict[str, Any]:
        """How the epochs were made: name, rules, trim; empty if unknown."""
        preset = self.data.get("preset")
        return preset if isinstance(preset, dict) else {"name": preset} if preset else {}

    @property
    def _origins(self) -> tuple[Mapping[str, Any], ...]:
        """Facts that say whether the data is simulated; not those of a parent's data."""
        facts: Mapping[str, Any] = self.model_facts
        if "parent" in facts and isinstance(facts.get("trained_on"), Mapping):
            facts = facts["trained_on"]
        return self.facts, self.data, facts

    @property
    def simulated(self) -> bool | None:
        """Whether any of the data is simulated; None if no file says."""
        answers = [facts["simulated"] for facts in self._origins if "simulated" in facts]
        return any(answers) if answers else None

    @property
    def simulators(self) -> list[int]:
        """Versions of the simulators that made the data; those of version 1 did not say so."""
        versions = {v for facts in self._origins for v in facts.get("simulators", ())}
        return sorted(versions or ({1} if self.simulated else ()))

    @property
    def randomised(self) -> bool:
        """Whether any of the data was simulated with randomised signals."""
        return any(facts.get("randomised") for facts in self._origins)

    @property
    def fast(self) -> bool:
        """Whether any of the data was simulated from few epochs, which its nights repeat."""
        return any(facts.get("fast") for facts in self._origins)

    @property
    def parent(self) -> dict[str, Any]:
        """Facts of the model that the trainings began with; empty if they began with none."""
        parent = self.facts.get("parent", self.model_facts.get("parent"))
        return parent if isinstance(parent, dict) else {}

    @property
    def continued(self) -> dict[str, Any]:
        """Table [continued] of config.toml: which run this one goes on with; empty if with none."""
        return settings.settings_table(self.config, "continued")

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Stage names, in the order of the predictions' columns."""
        table = store.read_table(self.done[0].folder(self.folder) / PREDICTIONS_FILE)
        return tuple(c[2:] for c in table.columns if c.startswith("p_"))

    @cached_property
    def epoch_seconds(self) -> float:
        """Length of an epoch, s."""
        seconds = self.facts.get("epoch_seconds", self.model_facts.get("epoch_seconds", 30.0))
        return float(seconds)


def open_run(folder: Path, *, partial: bool = False) -> Run:
    """Open a run folder.

    Parameters
    ----------
    folder
        Run folder that `train` wrote.
    partial
        Accept a run that lacks folds, as long as it has one.

    Raises
    ------
    MissingInputError
        If the folder does not exist.
    DataError
        If it is not a run, of a newer version, or incomplete (the message names what is missing).
    """
    config = _read_run_config(store.need(folder, "run folder"))
    if not (folder / FOLDS_FILE).exists():
        raise DataError(
            f"{folder}: no folds.parquet: this run tests no subjects", code="RUN-UNTESTED"
        )
    table = store.read_table(folder / FOLDS_FILE)
    expected = _expected_trainings(folder, config, table)
    done = tuple(t for t in expected if is_done(t.folder(folder)))
    missing = tuple(t for t in expected if t not in done)
    if not done or (missing and not partial):
        raise DataError(
            f"{folder}: incomplete, {len(missing)} of {len(expected)} trainings without "
            f"predictions: {_listing(missing)}",
            hint=f"'sleeptools train EPOCHS {quoted(folder)} `config={folder / CONFIG_FILE}`' "
            "continues where it stopped",
            code="RUN-INCOMPLETE",
        )
    manifest = folder / "manifest.json"
    facts = store.read_manifest(folder, RUN_KIND, RUN_VERSION) if manifest.exists() else {}
    return Run(folder, config, facts, table, done, missing)


def is_done(folder: Path, *, final: bool = False) -> bool:
    """Tell whether a training is done: it has its last file and no checkpoint.

    Parameters
    ----------
    folder
        Folder of the training.
    final
        Whether it is the model trained on all subjects, which has no predictions.
    """
    last = "model.safetensors" if final else PREDICTIONS_FILE
    return (folder / last).exists() and not (folder / STATE).exists()


def model_table(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the table [model] of a run's settings; a text in its place is the model's name."""
    model = values.get("model", {})
    return {"name": model} if isinstance(model, str) else settings.settings_table(values, "model")


def _read_run_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.exists():
        raise DataError(
            f"{folder}: not a {RUN_KIND} folder (no config.toml)",
            hint="give the folder that 'sleeptools train' wrote, for example runs/mmasleepnet",
            code="FACT-FORMAT",
        )
    config = store.read_toml(path)
    store.check_format(config, path, RUN_KIND, RUN_VERSION)
    kinds = {"protocols": "texts?", "hold_out": "texts?", "recipe": "table?", "parent": "table?"}
    kinds["continued"] = "table?"
    store.check_facts(config, path, kinds)
    return config


def _expected_trainings(
    folder: Path, config: dict[str, Any], table: pl.DataFrame
) -> list[TrainingId]:
    lacking = {"protocol", "fold", "subject", "role"} - set(table.columns)
    if lacking:
        raise DataError(
            f"{folder / FOLDS_FILE}: lacks column {', '.join(sorted(lacking))}", code="TAB-COLUMNS"
        )
    pairs = table.select("protocol", "fold").unique().sort("protocol", "fold").rows()
    protocols = config.get("protocols") or sorted({p for p, _ in pairs})
    seeds = config.get("seeds") or [0]
    with store.building(folder / CONFIG_FILE):
        trainings = [
            TrainingId(p, int(s), int(f)) for p, f in pairs for s in seeds if p in protocols
        ]
        if config.get("final") and (HELD_OUT, 0) in pairs:
            trainings = [t for t in trainings if t.protocol != HELD_OUT]
            trainings.append(TrainingId(HELD_OUT, _final_seed(folder, seeds), 0))
            protocols = [*protocols, HELD_OUT]
    if not trainings:
        raise DataError(
            f"{folder}: folds.parquet and config.toml name no fold of any protocol",
            code="RUN-FOLDS",
        )
    return sorted(trainings, key=lambda t: (protocols.index(t.protocol), t.seed, t.fold))


def _final_seed(folder: Path, seeds: Sequence[Any]) -> int:
    """Seed of the final model: of the first command that trained one."""
    tested = sorted(folder.glob(f"{HELD_OUT}/seed-*/fold-00/{PREDICTIONS_FILE}"))
    names = [path.parents[1].name.removeprefix("seed-") for path in tested]
    return int(names[0] if names and names[0].isdigit() else seeds[0])


def _listing(trained: Sequence[TrainingId]) -> str:
    listing = ", ".join(map(str, trained[:6]))
    return f"{listing} and {len(trained) - 6} more" if len(trained) > 6 else listing  # noqa: PLR2004


def run_progress(folder: Path) -> dict[str, Any]:
    """List which trainings of a run are done; a run without any finished training is accepted.

    Returns
    -------
    progress
        `done` and `missing` (names of trainings, "final" among them where it was asked for),
        `array`: the folds still to train, as Slurm's array jobs take them, `leaky`: whether
        subjects train and are tested at once, `hold_out`: the subjects that no training sees, where
        there are such, and of a fine-tuned run `parent`: the model's name,
        and SHA-256 of the weights that it began with.
    """
    config = _read_run_config(store.need(folder, "run folder"))
    path, expected = folder / FOLDS_FILE, []
    if path.exists() or not config.get("final"):
        expected = _expected_trainings(folder, config, store.read_table(path))
    status = {str(t): is_done(t.folder(folder)) for t in expected}
    if config.get("final"):
        status[FINAL] = is_done(folder / FINAL, final=True)
    return {
        "done": [name for name, done in status.items() if done],
        "missing": [name for name, done in status.items() if not done],
        "array": ",".join(
            map(
                str,
                sorted({t.fold for t in expected if t.protocol != HELD_OUT and not status[str(t)]}),
            )
        ),
        "leaky": bool(config.get("leaky")),
        **({"hold_out": list(config["hold_out"])} if config.get("hold_out") else {}),
        **({"parent": dict(config["parent"])} if config.get("parent") else {}),
    }
