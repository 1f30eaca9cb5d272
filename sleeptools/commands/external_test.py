"""External test: a trained model scores another set of epochs, which becomes a run of its own.

The run has one fold in which all subjects are tested and none trains, under the protocol
`external`, so that `evaluate`, `report` and `verify` take it as any other run. A model with kernels
is scored without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError, OutputError, quoted
from sleeptools.inference.engine import Engine
from sleeptools.preprocessing.epochs import EpochFile, EpochSet, check_epochs, open_epochs
from sleeptools.recording import montage
from sleeptools.runs import model_folder, writing
from sleeptools.runs.folds import EXTERNAL, Fold
from sleeptools.runs.leakage import check_unseen, learnt_subjects
from sleeptools.runs.parent import describe, preset_of
from sleeptools.runs.run import RUN_KIND, RUN_VERSION, TrainingId
from sleeptools.store import settings


def score(
    model: Path,
    epochs: Path,
    out: Path,
    *,
    match_channels_by_order: bool = False,
    allow_shared_subject_ids: bool = False,
    threads: int | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Score every epoch of a set with a model and write the run.

    Parameters
    ----------
    model
        Model folder: that of a fold, or `final`.
    epochs
        Folder that `preprocess` wrote.
    out
        Run folder; made, or written again with the same model and epochs.
    match_channels_by_order
        Use the channels of the epochs for those of the model by their order, where the labels
        differ and the modalities agree, as between two data sets.
    allow_shared_subject_ids
        Accept subjects with the ids of subjects that trained the model: they are different people.
    threads
        CPU threads.
    log
        Called with a line of text for each recording, and with a warning of a model folder that
        nothing has the sums of.

    Raises
    ------
    MissingInputError
        If a folder does not exist.
    DataError
        If the epochs do not fit the model, are damaged, or some of their subjects trained it.
    OutputError
        If `out` holds another run.
    """
    manifest = store.Manifest(RUN_KIND, RUN_VERSION)
    facts, data = model_folder.read_config(model), open_epochs(epochs)
    _check_fit(facts, data, model, match_channels_by_order=match_channels_by_order)
    leakage = check_unseen(
        facts, data, data.subjects, allow_shared_subject_ids=allow_shared_subject_ids
    )
    check_epochs(epochs)
    training = TrainingId(EXTERNAL, int(facts.get("seed") or 0), 0)
    config = _config(facts, data, model, training.seed)
    engine = Engine.load(model, threads=threads, calibrated=False)
    with store.lock(out, str(training.folder(Path()))):
        _refuse_other(out, config)
        writing.write_config(out, config)
        writing.write_folds(out, data, {EXTERNAL: [Fold(0, (), (), data.subjects)]})
        writing.write_nights(out, data)
        if unverified := model_folder.unverified(model):
            log(f"warning: {unverified}")
        _score(engine, data, training.folder(out), log)
        manifest.facts = _facts(facts, data, model, leakage) | {
            "engine": engine.backend,
            "threads": engine.threads,
        }
        writing.write_manifest(out, manifest)
    return out


def _check_fit(
    facts: Mapping[str, Any], data: EpochSet, model: Path, *, match_channels_by_order: bool
) -> None:
    """Compare the montage, sample rate, epoch length and stages of the model and the epochs.

    Raises
    ------
    DataError
        If they differ; the message has all that do.
    """
    expected = {
        "montage": list(facts["montage"]),
        "sample rate": f"{facts['sample_rate']:g} Hz",
        "epoch": f"{facts['epoch_seconds']:g} s",
        "stages": list(facts["stages"]),
    }
    epochs = {
        "montage": list(data.montage),
        "sample rate": f"{data.sample_rate:g} Hz",
        "epoch": f"{data.epoch_seconds:g} s",
        "stages": list(data.names),
    }
    kinds = [
        [montage.modality(label) for label in facts_["montage"]] for facts_ in (expected, epochs)
    ]
    alike = kinds[0] == kinds[1]
    different = {k for k in expected if expected[k] != epochs[k]}
    if match_channels_by_order and alike:
        different.discard("montage")
    if different:
        lines = (
            f"{k}: expected {_text(expected[k])}, got {_text(epochs[k])}"
            for k in expected
            if k in different
        )
        may = alike and different == {"montage"}
        raise DataError(
            f"{data.folder}: does not fit the model {model}: {'; '.join(lines)}",
            hint="`match_channels_by_order` takes these channels for the model's, in this order"
            if may
            else "preprocess the recordings with a preset of the model's montage, rate and stages",
            code="MODEL-FIT",
        )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _config(facts: Mapping[str, Any], data: EpochSet, model: Path, seed: int) -> dict[str, Any]:
    """Give the content of config.toml, which tells one external test from another."""
    chosen = {k: v for k, v in facts["config"].items() if v is not None}
    return {
        "format": RUN_KIND,
        "version": RUN_VERSION,
        "folds": 1,
        "folds_from": EXTERNAL,
        "protocols": [EXTERNAL],
        "seeds": [seed],
        "final": False,
        "model": {"name": facts["model"], **chosen},
        "external": {"weights": store.sha256(model / "model.safetensors")},
        "epochs": writing.epochs_fingerprint(data),
    }


def _refuse_other(out: Path, config: Mapping[str, Any]) -> None:
    writing.refuse_foreign(out)
    path = out / "config.toml"
    if not path.exists():
        return
    if lines := settings.difference(store.read_toml(path), config):
        raise OutputError(
            f"{out}: holds another run: {'; '.join(lines)}",
            hint="give another folder with `out`",
            code="OUT-SETTINGS",
        )


def _score(engine: Engine, data: EpochSet, folder: Path, log: Callable[[str], None]) -> None:
    """Score all epochs and write the predictions, last: they mark the test as done."""
    densities = []
    for number, file in enumerate(data.files, 1):
        densities.append(_hypnodensity(engine, file, data))
        log(f"[{number}/{len(data.files)}] {file.recording}: {len(file)} epochs")
    numbers = np.arange(len(data))
    table = writing.predictions_table(data, numbers, np.concatenate(densities), "test")
    writing.write_audit(folder, EXTERNAL, [(0, "score")])
    writing.write_predictions(folder, [table])


def _hypnodensity(engine: Engine, file: EpochFile, data: EpochSet) -> npt.NDArray[np.float32]:
    p = engine.hypnodensity(file.signals, file.onset)
    if len(bad := np.flatnonzero(~np.isfinite(p).all(1))):
        raise DataError(
            f"{file.recording}: {len(bad)} epochs, the first {bad[0]}, have no finite score",
            hint=f"'sleeptools verify {quoted(data.folder)}' tells whether the file is damaged",
            code="MODEL-SCORES",
        )
    return p


def _facts(facts: Mapping[str, Any], data: EpochSet, model: Path, leakage: str) -> dict[str, Any]:
    """Facts of the run for its manifest."""
    return {
        "model": facts["model"],
        "model_config": facts["config"],
        **writing.signal_facts(data),
        **writing.data_facts(data),
        "protocols": [EXTERNAL],
        "folds": 1,
        "external": {
            "model": str(model),
            "weights": store.sha256(model / "model.safetensors"),
            "trained_on": preset_of(facts),
            "leakage": leakage,
            "trained_as": {k: facts.get(k) for k in ("protocol", "seed", "fold", "pass")},
            "train_subjects": len(facts.get("train_subjects", [])),
            **_parent(facts),
            "model_montage": list(facts["montage"]),
        },
        "external_notes": list(_notes(facts, data)),
    }


def _parent(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the parent of a fine-tuned model, and how many subjects trained one or the other."""
    parent = facts.get("parent")
    if not parent:
        return {}
    facts_of_parent = {key: parent.get(key) for key in ("model", "weights", "trained_as")}
    return {"parent": facts_of_parent, "learnt_subjects": len(learnt_subjects(facts))}


def _notes(facts: Mapping[str, Any], data: EpochSet) -> Iterator[str]:
    """Give notes for the report: where the two data sets and their processing differ."""
    theirs, ours = preset_of(facts), preset_of({"preprocessing": data.manifest})
    count = len(facts.get("train_subjects", []))
    yield (
        f"External test: trained on {count} subjects of {_named(theirs)}, tested on "
        f"{len(data.subjects)} of {_named(ours)}."
    )
    rules = [preset.get("rules") or "unknown" for preset in (theirs, ours)]
    if rules[0] != rules[1]:
        yield (
            f"The rules of scoring differ ({rules[0]} against {rules[1]}): part of the "
            "disagreement is theirs, not the model's."
        )
    if parent := facts.get("parent"):
        yield f"The model was fine-tuned from {describe(parent)}."
    if facts.get("simulated"):
        yield "The model was trained on simulated data."
    if list(facts["montage"]) != list(data.montage):
        pairs = zip(facts["montage"], data.montage, strict=True)
        yield "Channels stand in: " + ", ".join(f"{b} for {a}" for a, b in pairs if a != b) + "."
    if theirs.get("processing", []) != ours.get("processing", []):
        yield "The signals of the two were not processed alike (processing steps of the presets)."


def _named(preset: Mapping[str, Any]) -> str:
    name, rules = preset.get("name") or "unknown data", preset.get("rules")
    return f"{name} ({rules})" if rules else str(name)
