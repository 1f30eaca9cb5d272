"""What `agree` writes: a page, tables, a consensus for each night, and all numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from sleeptools import formats, store
from sleeptools.commands.agree.compare import SIMULATED_NIGHT, Comparison
from sleeptools.commands.agree.page import agreement_html
from sleeptools.errors import OutputError
from sleeptools.evaluation.agreement import NightAgreement, ScoringAgreement
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.simulators import SIMULATED
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, UNSCORED
from sleeptools.report.plain import safe_filename
from sleeptools.store import batch

AGREEMENT_KIND: Final = "sleeptools-agreement"
AGREEMENT_VERSION: Final = 1
PAGE, FACTS = "agreement.html", "agreement.json"
CONSENSUS, CONSENSUS_TABLE = "-consensus.edf", "-consensus.csv"
EDF_STAGES: Final = (*HUMAN_STAGES, *MOUSE_STAGES)
LONGEST_NAME: Final = 150  # letters


def check_out(out: Path, sources: Sequence[Path]) -> None:
    """Refuse a folder that holds something else, or what is compared, or lies within that.

    Raises
    ------
    OutputError
        If it does.
    """
    store.refuse_foreign(out, AGREEMENT_KIND)
    for source in sources:
        if source.exists() and out.resolve() in (source.resolve(), *source.resolve().parents):
            raise OutputError(
                f"{out}: holds what is compared", hint="give another folder", code="OUT-INPUT"
            )
        if source.is_dir() and source.resolve() in out.resolve().parents:
            raise OutputError(
                f"{out}: lies in {source}, whose scorings are compared; the consensus would be one "
                "of them",
                hint="give a folder beside it",
                code="OUT-INPUT",
            )


def tables(agreement: ScoringAgreement) -> dict[str, pl.DataFrame]:
    """Give every table by the name of its file."""
    return {
        "agreement": agreement.metrics(),
        "nights": agreement.by_night(),
        "confusion": _confusion(agreement),
        "sleep": agreement.sleep(),
        "bland_altman": agreement.bland_altman(),
        "hours": agreement.hours(),
        "differing": agreement.differing(),
    }


def _confusion(agreement: ScoringAgreement) -> pl.DataFrame:
    """Count the epochs of each pair of stages: pair, reference, other, epochs."""
    rows = [
        (pair, row, column, int(matrix[i, j]))
        for pair, matrix in zip(agreement.pairs, agreement.confusions, strict=True)
        for i, row in enumerate(agreement.names)
        for j, column in enumerate(agreement.names)
    ]
    return pl.DataFrame(rows, ["pair", "reference", "other", "epochs"], orient="row")


def agreement_json(comparison: Comparison) -> dict[str, Any]:
    """Turn a comparison into plain values, for JSON; the keys are stable, NaN is null."""
    agreement = comparison.agreement
    facts = {
        "format": AGREEMENT_KIND,
        "version": AGREEMENT_VERSION,
        "scorings": list(agreement.scorings),
        "stages": list(agreement.names),
        "pairs": agreement.pairs,
        "notes": list(agreement.notes),
        "nights": [
            {
                "night": night.night,
                "files": [str(path) for path in comparison.files.get(night.night, [])],
                "epoch_seconds": night.aligned.epoch_seconds,
                "notes": list(night.notes),
                "shifts": {
                    pair: {"epochs": s.epochs, "kappa": s.kappa, "unshifted": s.unshifted}
                    | {"doubtful": s.is_doubtful}
                    for pair, s in zip(agreement.pairs, night.shifts, strict=True)
                },
                "consensus": {
                    name: getattr(night.consensus, name)
                    for name in ("unanimous", "majority", "by_probability", "by_order")
                },
            }
            for night in agreement.nights
        ],
        "failed": {name: error.facts() for name, error in comparison.failures.items()},
        "confusions": {
            pair: matrix.tolist()
            for pair, matrix in zip(agreement.pairs, agreement.confusions, strict=True)
        },
        **{
            name: table.to_dicts()
            for name, table in tables(agreement).items()
            if name not in ("confusion", "nights", "sleep")
        },
        "by_night": agreement.by_night().to_dicts(),
    }
    plain: dict[str, Any] = store.plain_values(facts)
    return plain


def write_agreement(comparison: Comparison, out: Path) -> None:
    """Write the folder of a comparison, which is locked; what an earlier one left is replaced."""
    agreement = comparison.agreement
    if not (out / store.MANIFEST).exists():  # marks it, if the command is interrupted
        store.Manifest(AGREEMENT_KIND, AGREEMENT_VERSION).write(out)
    files = []
    for name, table in tables(agreement).items():
        files.append(out / f"{name}.csv")
        store.write_text(files[-1], store.table_csv(table))
    for name, night in _file_names(agreement).items():
        hypnogram = night.consensus_hypnogram()
        if SIMULATED_NIGHT in night.notes:  # which its readers are to say, too
            hypnogram = replace(hypnogram, scorer=SIMULATED)
        files.append(_write_consensus(hypnogram, out / name))
    facts = agreement_json(comparison)
    files += [out / FACTS, out / PAGE]
    store.write_json(out / FACTS, facts)
    store.write_text(out / PAGE, agreement_html(comparison))
    rows = [{"night": night.night} for night in agreement.nights]
    batch.Outcome(rows, dict(comparison.failures), "night").write_failures(out)
    _remove_earlier(out, files)
    manifest = store.Manifest(AGREEMENT_KIND, AGREEMENT_VERSION, _facts(comparison))
    manifest.write(out, files)


def _file_names(agreement: ScoringAgreement) -> dict[str, NightAgreement]:
    """Name the files of the nights, with a number where two would be the same."""
    named: dict[str, NightAgreement] = {}
    for night in agreement.nights:
        name = safe_filename(night.night)[:LONGEST_NAME]
        if name in named:
            name = f"{name}-{len(named) + 1}"
        named[name] = night
    return named


def _write_consensus(hypnogram: Hypnogram, path: Path) -> Path:
    """Write a consensus, as EDF+ or, where that has no word for a merged stage, as a table."""
    if set(hypnogram.names) <= {*EDF_STAGES}:
        file = path.with_name(f"{path.name}{CONSENSUS}")
        formats.write_hypnogram(hypnogram, file, to="edf")
        return file
    file = path.with_name(f"{path.name}{CONSENSUS_TABLE}")
    rows = [
        (
            hypnogram.onset + number * hypnogram.epoch_seconds,
            hypnogram.epoch_seconds,
            hypnogram.names[stage] if stage != UNSCORED else "n/a",
        )
        for number, stage in enumerate(hypnogram.stages.tolist())
    ]
    store.write_text(file, store.csv_text([("onset", "duration", "stage"), *rows]))
    return file


def _remove_earlier(out: Path, files: Sequence[Path]) -> None:
    """Remove the files that an earlier comparison listed and this one has not."""
    for name in store.listed_hashes(out, AGREEMENT_KIND):
        if out / name not in files:
            (out / name).unlink(missing_ok=True)


def _facts(comparison: Comparison) -> dict[str, Any]:
    agreement = comparison.agreement
    inputs = {str(p) for paths in comparison.files.values() for p in paths if p.is_file()}
    return {
        "scorings": list(agreement.scorings),
        "stages": list(agreement.names),
        "nights": [night.night for night in agreement.nights],
        "notes": list(agreement.notes),
        "inputs": {path: store.sha256(Path(path)) for path in sorted(inputs)},
        "failed": {name: error.facts() for name, error in comparison.failures.items()},
    }
