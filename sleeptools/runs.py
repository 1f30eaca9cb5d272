"""The run folder as its readers see it: folds done and missing, predictions, training logs.

`train` writes it; `evaluate`, `report` and `status` read it through here. Everything is checked on
the way in, so that a number in a table can be traced to files that fit together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleeptools import config as settings
from sleeptools import folds, store
from sleeptools.errors import DataError, UsageError

if TYPE_CHECKING:
    import polars as pl

KIND = "sleeptools-run"
VERSION = 1
FINAL = "final"
"""Folder of the model trained on everybody, and its protocol."""
STATE = "state.safetensors"
"""The checkpoint of an unfinished training."""
EXPLAIN = "explain.safetensors"
"""What a fold's model makes of its test epochs, besides their stages; may be left out."""
EPOCHS = "folds_epochs.parquet"
"""Which epochs validate and are tested, where epochs and not subjects are dealt out."""
OPTIONS: Mapping[str, tuple[type, str]] = {
    "split": (str, "a text"), "folds": (int, "a whole number"), "folds_from": (str, "a text"),
    "folds_seed": (int, "a whole number"), "protocols": (list, "a list"),
    "seeds": (list, "a list"), "final": (bool, "true or false"),
}  # fmt: skip
"""Keys of config.toml that are options of `train`, and what they hold."""
COLUMNS = ("recording", "subject", "night", "epoch", "onset", "role", "stage", "predicted")
ROLES = ("val", "test")
WATCH = "watch"
"""Purpose, in audit.csv, of a reading of the test fold that decides nothing."""
SUM_TOLERANCE = 1e-2  # of an epoch's probabilities, which are float32 and may have been quantised


@dataclass(frozen=True, order=True)
class Trained:
    """One training of a run: a fold under a protocol with a seed."""

    protocol: str
    seed: int
    fold: int

    def folder(self, run: Path) -> Path:
        """Where its files lie."""
        return run / self.protocol / f"seed-{self.seed}" / f"fold-{self.fold:02d}"

    def __str__(self) -> str:
        return f"{self.protocol}/seed-{self.seed}/fold-{self.fold:02d}"


@dataclass(frozen=True)
class Run:
    """A run folder.

    Parameters
    ----------
    folder
        Where it lies.
    config
        `config.toml`: model, folds, protocols, seeds, recipe.
    facts
        `manifest.json`, empty while the run is unfinished.
    folds
        Table protocol, fold, subject, role; "mixed" for a subject whose epochs have several.
    done, missing
        Trainings with and without predictions, sorted.
    """

    folder: Path
    config: dict[str, Any] = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    folds: pl.DataFrame = field(repr=False)
    done: tuple[Trained, ...] = field(repr=False)
    missing: tuple[Trained, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def model(self) -> str:
        """Name of the model, as on the command line."""
        return str(_model(self.config).get("name", self.facts.get("model", "unknown")))

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the model, as far as they are known."""
        return {k: v for k, v in _model(self.config).items() if k != "name"}

    @property
    def recipe(self) -> dict[str, Any]:
        """How the model was trained."""
        return settings.table(self.config, "recipe")

    def unchosen(self, protocol: str) -> tuple[int, ...]:
        """Folds of a protocol in which nothing chooses the pass, so that the last one is kept."""
        if protocol in {folds.BEST_ON_TEST, folds.EXTERNAL}:
            return ()
        import polars as pl

        mine = self.folds.filter(pl.col("protocol") == protocol)
        validated = set(mine.filter(pl.col("role").is_in(["val", folds.MIXED]))["fold"])
        free = self.recipe.get("selection") == "last"
        return tuple(f for f in sorted(set(mine["fold"])) if free or f not in validated)

    def count(self, protocol: str, seed: int) -> int:
        """Count the folds of a protocol and seed that are done."""
        return sum((t.protocol, t.seed) == (protocol, seed) for t in self.done)

    @property
    def leaky(self) -> bool:
        """Whether subjects train and are tested at once, by request."""
        return any(f.get("leaky") for f in (self.config, self.facts, self.model_facts))

    @property
    def mixed(self) -> bool:
        """Whether epochs and not subjects were dealt out."""
        return folds.MIXED in self.folds["role"]

    @cached_property
    def held_out(self) -> pl.DataFrame:
        """Table protocol, fold, recording, epoch, role of the epochs that do not train, if mixed.

        Raises
        ------
        DataError
            If the file lacks a column, or gives an epoch two roles in one fold.
        """
        path, columns = self.folder / EPOCHS, ["protocol", "fold", "recording", "epoch", "role"]
        table = store.read_table(path)
        if lacking := set(columns) - set(table.columns):
            raise DataError(f"{path}: lacks column {', '.join(sorted(lacking))}")
        if len(table) != len(table.unique(columns[:-1])):
            raise DataError(f"{path}: an epoch has two roles in one fold")
        return table

    @property
    def data(self) -> dict[str, Any]:
        """What the manifest of the epochs said; empty if unknown."""
        found = self.facts.get("data", self.model_facts.get("preprocessing"))
        return found if isinstance(found, dict) else {}

    @cached_property
    def model_facts(self) -> dict[str, Any]:
        """`config.json` of the first model, which knows of the data while no manifest is there."""
        path = self.done[0].folder(self.folder) / "config.json"
        found = store.read_json(path) if path.exists() else {}
        return found if isinstance(found, dict) else {}

    @property
    def preset(self) -> dict[str, Any]:
        """How the epochs were made: name, rules, trim; empty if unknown."""
        found = self.data.get("preset")
        return found if isinstance(found, dict) else {"name": found} if found else {}

    @property
    def simulated(self) -> bool | None:
        """Whether any of the data is simulated; None if no file says."""
        sources = (self.facts, self.data, self.model_facts)
        said = [facts["simulated"] for facts in sources if "simulated" in facts]
        return any(said) if said else None

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Stage names, in the order of the predictions' columns."""
        table = store.read_table(self.done[0].folder(self.folder) / "predictions.parquet")
        return tuple(c[2:] for c in table.columns if c.startswith("p_"))

    @cached_property
    def epoch_seconds(self) -> float:
        """Length of an epoch, s."""
        known = self.facts.get("epoch_seconds", self.model_facts.get("epoch_seconds", 30.0))
        return float(known)


def open_run(folder: Path, *, partial: bool = False) -> Run:
    """Open a run folder.

    Parameters
    ----------
    folder
        What `train` wrote.
    partial
        Take a run that lacks folds, as long as it has one.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If it is no run, of a newer version, or incomplete (the message names what is missing).
    """
    config = _config(store.need(folder, "run folder"))
    if not (folder / "folds.parquet").exists():
        raise DataError(f"{folder}: no folds.parquet: this run has tested nobody")
    table = store.read_table(folder / "folds.parquet")
    expected = _expected(folder, config, table)
    done = tuple(t for t in expected if is_done(t.folder(folder)))
    missing = tuple(t for t in expected if t not in done)
    if not done or (missing and not partial):
        raise DataError(
            f"{folder}: incomplete, {len(missing)} of {len(expected)} trainings without "
            f"predictions: {_some(missing)}",
            hint="'sleeptools train' with the same settings continues where it stopped",
        )
    manifest = folder / "manifest.json"
    facts = store.read_manifest(folder, KIND, VERSION) if manifest.exists() else {}
    return Run(folder, config, facts, table, done, missing)


def is_done(folder: Path, *, final: bool = False) -> bool:
    """Tell whether a training is done: its last file is there, and no checkpoint.

    Parameters
    ----------
    folder
        Of the training.
    final
        It is the model trained on everybody, which tests nobody and has no predictions.
    """
    last = "model.safetensors" if final else "predictions.parquet"
    return (folder / last).exists() and not (folder / STATE).exists()


def asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a settings file, or a run's own config.toml, into options of `train`.

    Parameters
    ----------
    values
        Tables [model] and [recipe]; `model` may also be just a name; and the rest of what a
        config.toml holds. Which epochs the run was trained on (`epochs`) is not an option.

    Returns
    -------
    options
        `settings` (tables model and recipe), and of model, split, folds, folds_from, folds_seed,
        protocols, seeds and final what is there.

    Raises
    ------
    UsageError
        For an unknown key, or a value of the wrong kind.
    """
    there = ("model", "recipe", *OPTIONS)
    settings.known(values, [*there, "format", "version", "epochs", "leaky"], where="settings")
    if "format" in values:
        store.check_format(values, Path("--config"), KIND, VERSION)
    model = _model(values)
    found: dict[str, Any] = {
        "settings": {
            "model": {k: v for k, v in model.items() if k != "name"},
            "recipe": settings.table(values, "recipe"),
        }
    }
    if "name" in model:
        found["model"] = str(model["name"])
    for key, (kind, expected) in OPTIONS.items():
        if key in values and not isinstance(values[key], kind):
            raise UsageError(f"settings: {key} is {values[key]!r}; expected {expected}")
        if values.get(key):
            found[key] = tuple(values[key]) if kind is list else values[key]
    return found


def _model(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the table [model]; a text in its place is the name."""
    found = values.get("model", {})
    return {"name": found} if isinstance(found, str) else settings.table(values, "model")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.toml"
    if not path.exists():
        raise DataError(
            f"{folder}: not a {KIND} folder (no config.toml)",
            hint="give the folder that 'sleeptools train' wrote, for example runs/mmasleepnet",
        )
    config = store.read_toml(path)
    store.check_format(config, path, KIND, VERSION)
    return config


def _expected(folder: Path, config: dict[str, Any], table: pl.DataFrame) -> list[Trained]:
    lacking = {"protocol", "fold", "subject", "role"} - set(table.columns)
    if lacking:
        raise DataError(f"{folder / 'folds.parquet'}: lacks column {', '.join(sorted(lacking))}")
    pairs = table.select("protocol", "fold").unique().sort("protocol", "fold").rows()
    protocols = config.get("protocols") or sorted({p for p, _ in pairs})
    seeds = config.get("seeds") or [0]
    found = [Trained(p, int(s), int(f)) for p, f in pairs for s in seeds if p in protocols]
    if not found:
        raise DataError(f"{folder}: folds.parquet and config.toml name no fold of any protocol")
    return sorted(found, key=lambda t: (protocols.index(t.protocol), t.seed, t.fold))


def _some(trained: Sequence[Trained]) -> str:
    shown = ", ".join(map(str, trained[:6]))
    return f"{shown} and {len(trained) - 6} more" if len(trained) > 6 else shown  # noqa: PLR2004


def progress(folder: Path) -> dict[str, Any]:
    """Say what of a run is done; a run of which nothing is done yet is fine.

    Returns
    -------
    progress
        `done` and `missing` (names of trainings, "final" among them where it was asked for),
        `array`: the folds still to train, as Slurm's `--array` takes them, and `leaky`: whether
        subjects train and are tested at once.
    """
    config = _config(store.need(folder, "run folder"))
    path, expected = folder / "folds.parquet", []
    if path.exists() or not config.get("final"):
        expected = _expected(folder, config, store.read_table(path))
    status = {str(t): is_done(t.folder(folder)) for t in expected}
    if config.get("final"):
        status[FINAL] = is_done(folder / FINAL, final=True)
    return {
        "done": [name for name, done in status.items() if done],
        "missing": [name for name, done in status.items() if not done],
        "array": ",".join(map(str, sorted({t.fold for t in expected if not status[str(t)]}))),
        "leaky": bool(config.get("leaky")),
    }


# --- predictions ----------------------------------------------------------------------------------


def predictions(run: Run, *, role: str | None = "test") -> pl.DataFrame:
    """Read and check the predictions of every training that is done.

    Parameters
    ----------
    role
        "test" or "val"; None for both.

    Returns
    -------
    table
        protocol, seed, fold, and the columns of predictions.parquet; the rows of the role,
        sorted by protocol as in the run, seed, fold (not if mixed), recording, onset.

    Raises
    ------
    DataError
        If a file lacks a column, holds an impossible value or the wrong subjects, or a
        recording (an epoch, if mixed) is tested twice under one protocol and seed.
    """
    import polars as pl

    table = pl.concat([_checked(run, trained) for trained in run.done])
    tested = table.filter(pl.col("role") == "test")
    keys = ["protocol", "seed", "recording", *(["epoch"] if run.mixed else [])]
    twice = tested.group_by(keys).agg(pl.col("fold").n_unique()).filter(pl.col("fold") > 1)
    if len(twice):
        raise DataError(
            f"{run.folder}: tested in more than one fold: {_listed(twice, 'recording')}"
        )
    if role is not None:
        table = table.filter(pl.col("role") == role)
    if run.mixed:  # the folds of a recording side by side, so that its epochs are in their order
        parts = table.partition_by("protocol", "seed", maintain_order=True)
        table = pl.concat([part.sort("recording", "onset") for part in parts])
    return table


def _checked(run: Run, trained: Trained) -> pl.DataFrame:
    import polars as pl

    path = trained.folder(run.folder) / "predictions.parquet"
    table = store.read_table(path)
    wanted = [*COLUMNS, *(f"p_{name}" for name in run.stages)]
    if lacking := [c for c in wanted if c not in table.columns]:
        raise DataError(f"{path}: lacks column {', '.join(lacking)}")
    for problem in _problems(table, run.stages):
        raise DataError(f"{path}: {problem}")
    if run.mixed:
        _dealt(run, trained, table, path)
    tested = set(table.filter(pl.col("role") == "test")["subject"])
    expected = tested if run.mixed else set(_subjects(run, trained, "test"))
    if tested != expected:
        raise DataError(
            f"{path}: tested subjects {_names(tested)}; folds.parquet says {_names(expected)}"
        )
    whose = [pl.lit(trained.protocol).alias("protocol"), pl.lit(trained.seed).alias("seed")]
    return table.select(
        *whose, pl.lit(trained.fold).alias("fold"), *wanted
    ).sort("recording", "onset")  # fmt: skip


def _dealt(run: Run, trained: Trained, table: pl.DataFrame, path: Path) -> None:
    """Compare the epochs that are scored, and their roles, with those that were dealt out."""
    import polars as pl

    mine = (pl.col("protocol") == trained.protocol) & (pl.col("fold") == trained.fold)
    columns = ["recording", "epoch", "role"]
    expected = run.held_out.filter(mine).select(columns)
    found = table.select(pl.col("recording"), pl.col("epoch").cast(pl.Int32), pl.col("role"))
    if len(found.join(expected, on=columns, how="semi")) != max(len(found), len(expected)):
        raise DataError(f"{path}: other epochs than {EPOCHS} says")


def _problems(table: pl.DataFrame, stages: Sequence[str]) -> Iterator[str]:
    """Say what is wrong with a table of predictions."""
    import polars as pl

    if unknown := set(table["role"].unique()) - set(ROLES):
        yield f"role {_names(unknown)}; expected {' or '.join(ROLES)}"
    for column in ("stage", "predicted"):
        bad = table.filter(
            ~pl.col(column).is_between(0, len(stages) - 1) | pl.col(column).is_null()
        )
        if len(bad):
            yield f"{column} {bad[column][0]} in {len(bad)} rows; expected 0 to {len(stages) - 1}"
    total = pl.sum_horizontal(pl.col(f"p_{name}") for name in stages)
    bad = table.filter(((total - 1).abs() < SUM_TOLERANCE).not_() | total.is_nan())
    if len(bad):
        yield f"probabilities of {len(bad)} epochs do not add up to 1 ({bad['recording'][0]})"
    if len(table) != len(table.unique(["role", "recording", "epoch"])):
        yield "the same epoch stands there twice"


def _subjects(run: Run, trained: Trained, *roles: str) -> list[str]:
    import polars as pl

    mine = (pl.col("protocol") == trained.protocol) & (pl.col("fold") == trained.fold)
    return run.folds.filter(mine & pl.col("role").is_in(roles))["subject"].to_list()


def _names(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values))) or "none"


def _listed(table: pl.DataFrame, column: str) -> str:
    return _names(set(table[column].head(8)))


def leaks(run: Run) -> list[str]:
    """List the subjects that train or validate and are tested in one fold; none is right.

    Returns
    -------
    lines
        "leak-free fold 3: SC400, SC401", one per fold that leaks.
    """
    found = []
    for protocol, fold in sorted({(t.protocol, t.fold) for t in run.done}):
        trained = Trained(protocol, 0, fold)
        seen = set(_subjects(run, trained, "train", "val", folds.MIXED))
        if both := seen & set(_subjects(run, trained, "test", folds.MIXED)):
            found.append(f"{protocol} fold {fold}: {_names(both)}")
    return found


def readings(run: Run, *, watching: bool = True) -> dict[str, int]:
    """Count, per protocol, how often a test fold was read at most, from audit.csv; once is right.

    A protocol without such files is left out.

    Parameters
    ----------
    watching
        Count what `train --watch-test` read, too: it is logged, and decides nothing.
    """
    counts: dict[str, int] = {}
    for trained in run.done:
        path = trained.folder(run.folder) / "audit.csv"
        if path.exists():
            lines = path.read_text().splitlines()[1:]
            read = sum(watching or not line.endswith(f",{WATCH}") for line in lines)
            counts[trained.protocol] = max(counts.get(trained.protocol, 0), read)
    return counts


# --- training logs --------------------------------------------------------------------------------


def logs(run: Run) -> pl.DataFrame:
    """Read the training logs that are there.

    Returns
    -------
    table
        protocol, seed, fold (int), pass (int), and float64 loss, train_accuracy, val_accuracy,
        val_kappa, val_macro_f1, test_accuracy, test_kappa, test_macro_f1, seconds (null where not
        logged), and selected (bool: the pass that was kept).
    """
    import polars as pl

    values = ("loss", "train_accuracy", "val_accuracy", "val_kappa", "val_macro_f1",
              "test_accuracy", "test_kappa", "test_macro_f1", "seconds")  # fmt: skip
    schema = {"protocol": pl.String, "seed": pl.Int64, "fold": pl.Int64, "pass": pl.Int64}
    tables = [
        pl.DataFrame(schema=schema | dict.fromkeys(values, pl.Float64) | {"selected": pl.Boolean})
    ]
    for trained in run.done:
        path = trained.folder(run.folder) / "log.csv"
        if path.exists():
            tables.append(_log(path, trained, values))
    return pl.concat(tables)


def _log(path: Path, trained: Trained, values: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    try:
        raw = pl.read_csv(path, infer_schema=False)
        number = raw["pass"].cast(pl.Int64)
        given = [raw[c].cast(pl.Float64) if c in raw.columns else pl.lit(None, pl.Float64).alias(c)
                 for c in values]  # fmt: skip
    except (pl.exceptions.PolarsError, OSError) as e:
        raise DataError(f"{path}: not a readable training log: {e}") from e
    chosen = (
        raw["selected"] if "selected" in raw.columns else pl.Series("selected", [""] * len(raw))
    )
    # every better pass is marked while training goes on; the last of them is the one kept
    marked = chosen.fill_null("").str.to_lowercase().is_in(["true", "1"])
    last = marked.arg_true().max()
    return pl.select(
        pl.lit(trained.protocol).alias("protocol"), pl.lit(trained.seed, pl.Int64).alias("seed"),
        pl.lit(trained.fold, pl.Int64).alias("fold"), number, *given,
        (pl.int_range(len(raw)) == (-1 if last is None else last)).alias("selected"),
    )  # fmt: skip
