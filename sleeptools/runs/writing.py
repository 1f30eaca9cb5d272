"""The writer of a run folder: every file of it but models, checkpoints and evaluations.

`train` and the external test put their tables, settings and manifest here, so that readers find one
layout (docs/folders.md). Predictions are the last file of a training and mark it as done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.runs import nights
from sleeptools.runs.folds import (
    EXTERNAL,
    FOLD_PROTOCOLS,
    HELD_OUT,
    EpochFold,
    Numbers,
    Split,
    folds_table,
)
from sleeptools.runs.logs import AUDIT_FILE, LOG_COLUMNS, LOG_FILE, SCORING_FILE
from sleeptools.runs.run import (
    CONFIG_FILE,
    EXPLAIN,
    FINAL,
    FOLDS_EPOCHS,
    FOLDS_FILE,
    PLAN_FOLDER,
    PREDICTIONS_FILE,
    RUN_KIND,
    is_done,
)

if TYPE_CHECKING:
    import polars as pl

RUN_FILES = (CONFIG_FILE, FOLDS_FILE, FOLDS_EPOCHS, nights.NIGHTS_FILE)
"""Files that describe a run as a whole."""
OMITTED_FACTS = {"format", "version", "command", "environment", "files", "recordings", "inputs"}
"""Facts of an epochs manifest that a run's manifest does not repeat."""
HELD_OUT_ROLES = ("val", "test")


# --- what a run says of its epochs ----------------------------------------------------------------


def epochs_fingerprint(data: EpochSet) -> dict[str, Any]:
    """Tell one set of epochs from another: SHA-256 of the list of its files and their hashes.

    Returns
    -------
    fingerprint
        `sha256`, `recordings` and `count` (epochs), as in the table [epochs] of config.toml.
    """
    listing = json.dumps(data.manifest.get("files", {}), sort_keys=True).encode()
    return {
        "sha256": hashlib.sha256(listing).hexdigest(),
        "recordings": len(data.files),
        "count": len(data),
    }


def signal_facts(data: EpochSet) -> dict[str, Any]:
    """Describe the input and output of a model: montage, sample rate, epoch length and stages."""
    return {
        "montage": list(data.montage),
        "sample_rate": data.sample_rate,
        "epoch_seconds": data.epoch_seconds,
        "stages": list(data.names),
    }


def origin_facts(data: EpochSet) -> dict[str, Any]:
    """Tell whether the epochs are simulated, and by what."""
    return {
        "simulated": data.simulated,
        "simulators": data.simulators,
        "randomised": data.randomised,
        "fast": data.fast,
    }


def data_facts(data: EpochSet) -> dict[str, Any]:
    """Repeat, for a run's manifest, how its epochs were made and what was excluded."""
    facts = {k: v for k, v in data.manifest.items() if k not in OMITTED_FACTS}
    return origin_facts(data) | {"data": facts}


# --- the run as a whole ---------------------------------------------------------------------------


def write_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write config.toml where it is missing or differs."""
    path = run / CONFIG_FILE
    if not path.exists() or store.read_toml(path) != config:
        store.write_toml(path, config)


def write_folds(run: Path, data: EpochSet, folds: Mapping[str, Sequence[Split]]) -> None:
    """Write folds.parquet, and folds_epochs.parquet for folds of epochs, where they differ.

    Parameters
    ----------
    run
        The run folder.
    data
        The epochs that the folds divide.
    folds
        The folds of each protocol.
    """
    import polars as pl

    _write_table(run / FOLDS_FILE, pl.DataFrame(folds_table(folds)))
    _write_table(run / FOLDS_EPOCHS, _held_out_table(data, folds))


def write_nights(run: Path, data: EpochSet) -> None:
    """Write nights.parquet where it is missing or differs."""
    _write_table(run / nights.NIGHTS_FILE, nights.nights_table(data))


def write_manifest(run: Path, manifest: store.Manifest) -> None:
    """Write manifest.json with the hashes of all finished files.

    The sum of a training's file that is listed already stays: a file that was damaged since must
    not become right by that.
    """
    listed = store.listed_hashes(run, RUN_KIND)
    kept = {name: digest for name, digest in listed.items() if name not in RUN_FILES}
    manifest.write(run, finished_files(run), kept)


def unlist(run: Path, folders: Iterable[Path]) -> None:
    """Take the files of trainings that will be made again out of the manifest, if it has any."""
    path = run / store.MANIFEST
    if not path.exists():
        return
    facts = store.read_manifest(run, RUN_KIND)
    prefixes = tuple(f"{folder.relative_to(run)}/" for folder in folders)
    listed = {n: d for n, d in facts.get("files", {}).items() if not n.startswith(prefixes)}
    if listed != facts.get("files", {}):
        store.write_json(path, facts | {"files": listed})


def all_listed(run: Path) -> bool:
    """Tell whether the manifest lists all finished files."""
    listed = store.listed_hashes(run, RUN_KIND)
    return all(str(path.relative_to(run)) in listed for path in finished_files(run))


def refuse_foreign(run: Path) -> None:
    """Refuse to write a run into a folder that holds anything else.

    Raises
    ------
    OutputError
        If it has no config.toml, and other files than those of an interrupted training; or the
        manifest of another kind of folder.
    """
    if (run / store.MANIFEST).exists() or not (run / CONFIG_FILE).exists():
        store.refuse_foreign(
            run,
            RUN_KIND,
            {*RUN_FILES, *FOLD_PROTOCOLS, FINAL, EXTERNAL, HELD_OUT, PLAN_FOLDER},
        )


def finished_files(run: Path) -> list[Path]:
    """List the files of finished trainings and those of the run as a whole, sorted."""
    folders = [p for p in run.glob("*/seed-*/fold-*") if is_done(p)]
    folders += [p for p in run.glob(FINAL) if is_done(p, final=True)]
    files = [path for folder in folders for path in folder.glob("[!.]*.*")]
    return sorted([*files, *(run / name for name in RUN_FILES if (run / name).exists())])


def _write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table unless the file holds it already; an empty one removes the file."""
    if not len(table):
        path.unlink(missing_ok=True)  # of an attempt that trained nothing
    elif not path.exists() or not store.read_table(path).equals(table):
        store.write_table(path, table)


def _held_out_table(data: EpochSet, folds: Mapping[str, Sequence[Split]]) -> pl.DataFrame:
    """Rows of folds_epochs.parquet: validation and test epochs of folds that divide epochs."""
    import polars as pl

    tables = [
        pl.DataFrame(
            {
                "protocol": np.repeat(protocol, len(epoch)),
                "fold": np.repeat(fold.number, len(epoch)),
                "recording": np.array([f.recording for f in data.files])[file],
                "epoch": epoch.astype(np.int32),
                "role": np.repeat(role, len(epoch)),
            }
        )
        for protocol, splits in folds.items()
        for fold in splits
        for role in (HELD_OUT_ROLES if isinstance(fold, EpochFold) else ())
        for file, epoch in [data.locate(fold.numbers(role, data.numbers_of))]
    ]
    return pl.concat(tables) if tables else pl.DataFrame()


# --- one training ---------------------------------------------------------------------------------


def predictions_table(
    data: EpochSet, numbers: Numbers, probabilities: npt.NDArray[np.float32], role: str
) -> pl.DataFrame:
    """Build rows of predictions.parquet.

    Parameters
    ----------
    data
        The epochs.
    numbers
        (N,) indices, within the whole set, of the scored epochs.
    probabilities
        (N, stages) hypnodensity of these epochs.
    role
        "val" or "test".

    Returns
    -------
    table
        recording, subject, night, epoch (index in the recording's kept epochs), onset (s from the
        start of the recording), role, stage, predicted, and p_STAGE for each stage.
    """
    import polars as pl

    file, epoch = data.locate(numbers)
    columns = {
        "recording": np.array([f.recording for f in data.files])[file],
        "subject": np.array([f.subject for f in data.files])[file],
        "night": np.array([f.night for f in data.files], np.int16)[file],
        "epoch": epoch.astype(np.int32),
        "onset": np.concatenate([f.onset for f in data.files])[numbers],
        "role": np.repeat(role, len(numbers)),
        "stage": data.stages[numbers],
        "predicted": probabilities.argmax(1).astype(np.int8),
    }
    density = {f"p_{name}": probabilities[:, i] for i, name in enumerate(data.names)}
    return pl.DataFrame(columns | density)


def write_predictions(folder: Path, tables: Iterable[pl.DataFrame]) -> None:
    """Write predictions.parquet of a training; it marks the training as done, so write it last."""
    import polars as pl

    store.write_table(folder / PREDICTIONS_FILE, pl.concat(tables))


def write_audit(folder: Path, protocol: str, readings: Iterable[tuple[int, str]]) -> None:
    """Write audit.csv: pass and purpose of every reading of the test fold."""
    rows = [f"{protocol},{number},{purpose}" for number, purpose in readings]
    store.write_text(folder / AUDIT_FILE, "\n".join(["protocol,pass,purpose", *rows]) + "\n")


def write_scoring_time(folder: Path, epochs: int, seconds: float) -> None:
    """Write scoring.json: how many epochs were scored in how many seconds."""
    store.write_json(folder / SCORING_FILE, {"epochs": epochs, "seconds": round(seconds, 6)})


def write_log(folder: Path, rows: Sequence[Mapping[str, Any]], selected: int) -> None:
    """Write log.csv: a row for each pass, with the selected one (from 1) marked."""
    import polars as pl

    marked = [{**row, "selected": int(row["pass"] == selected)} for row in rows]
    columns = [[row.get(name) for row in marked] for name in LOG_COLUMNS]
    store.write_text(
        folder / LOG_FILE, store.table_csv(pl.DataFrame(columns, schema=[*LOG_COLUMNS]))
    )


def write_explanations(
    folder: Path, arrays: Mapping[str, store.Array], facts: Mapping[str, Any]
) -> None:
    """Write explain.safetensors: features and modality weights of the test epochs."""
    store.write_arrays(folder / EXPLAIN, arrays, facts)


def write_not_finite(folder: Path, epochs: Iterable[tuple[str, int]]) -> Path:
    """Write not_finite.csv: recording and epoch of a batch whose loss is not finite."""
    path = folder / "not_finite.csv"
    store.write_text(path, store.csv_text([("recording", "epoch"), *epochs]))
    return path
