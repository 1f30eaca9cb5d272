"""The builder of every item of the papers, and what feeds it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from sleeptools.recording.stages import HUMAN_STAGES
from sleeptools.report.items.arrangement import HUMAN, MOUSE, Arrangement
from sleeptools.report.items.content import Builder, ItemContent, ItemRequest
from sleeptools.report.items.costs import (
    headline_table,
    model_costs_table,
    scoring_time_table,
    training_hours,
)
from sleeptools.report.items.descriptions import (
    branch_layer_table,
    dataset_table,
    division_counts,
    printed_list,
    weight_table,
    without_measurement,
)
from sleeptools.report.items.figures import (
    dataset_matrices,
    fold_bars,
    fold_curves,
    fold_matrices,
    margin_matrix,
    pooled_matrix,
    stage_scores_and_matrix,
    training_accuracy_curve,
    variant_bars,
)
from sleeptools.report.items.fold_scores import fold_scores_table, subject_accuracy_table
from sleeptools.report.items.mouse_days import (
    experiment_time_line,
    stage_amount_bins,
    stage_amount_scatter,
)
from sleeptools.report.items.results import (
    ACCURACY,
    HUMAN_SCORES,
    RIVAL_SCORES,
    results_table,
    stage_scores_table,
)
from sleeptools.report.items.signals import (
    fused_features,
    prepared_epochs,
    stage_spectra,
    stage_waveforms,
    stretch_of_signals,
)

ABLATED: Final[Mapping[str, Mapping[str, object]]] = {
    "MBFE": {"fusion": "mbfe"},
    "MBFE + encoder": {"fusion": "mbfe+te"},
    "MMASleepNet3": {},
}
SIGNALS: Final[Mapping[str, Mapping[str, object]]] = {
    "MMASleepNet1 (EEG)": {"modalities": "eeg"},
    "MMASleepNet2 (EEG, EOG)": {"modalities": "eeg+eog"},
    "MMASleepNet3 (EEG, EOG, EMG)": {},
}
MMASLEEPNET_PARTS: Final = {"fusion": "full", "modalities": "all"}
MASLEEPNET: Final[Mapping[str, Mapping[str, object]]] = {
    "No-MSConv": {"streams": "small"},
    "EEG-Only": {"modalities": "eeg"},
    "No-SE": {"excitation": False},
    "MASleepNet": {},
}
MASLEEPNET_PARTS: Final = {"streams": "both", "modalities": "all", "excitation": True}


def _mouse_cnn(caption: str) -> Builder:
    return partial(stage_scores_table, caption=caption)


def _of_data(reason: str) -> Arrangement:
    """Make the arrangement of an item without measured data."""
    build = partial(without_measurement, reason=f"{reason[0].upper()}{reason[1:]}.")
    return Arrangement(build, takes_runs=False, reason=reason)


def _list(caption: str) -> Arrangement:
    reason = "it lists printed numbers, which no run feeds"
    return Arrangement(partial(printed_list, caption=caption), takes_runs=False, reason=reason)


def human_inputs(request: ItemRequest) -> ItemContent:
    """Show what the mouse network does on recordings of people, which the paper only proposes."""
    content = stage_scores_table(
        request, caption="SlumberNet on people, by stage, fractions", stages=HUMAN_STAGES
    )
    notes = []
    for source in request.runs:
        facts = source.evaluation.run.facts
        samples = round(float(facts.get("sample_rate") or 0) * source.evaluation.run.epoch_seconds)
        notes.append(
            f"{source.name}: an epoch of {samples} samples of {len(facts.get('montage') or [])} "
            "signals; the paper proposes (256, n) and reports nothing on people."
        )
    return ItemContent(content.tables, notes=notes)


def _by_dataset(request: ItemRequest) -> ItemContent:
    return results_table(
        request,
        labels={"Data set": lambda r: r["dataset"], "Model": lambda r: r["printed_model"]},
        columns=HUMAN_SCORES,
        caption="F1 of each stage and overall scores, per cent, all test folds together",
        best=True,
    )


def _accuracies(request: ItemRequest) -> ItemContent:
    return results_table(
        request,
        labels={"Data set": lambda r: r["dataset"]},
        columns=ACCURACY,
        caption="Accuracy of MASleepNet, per cent",
        order=lambda r: -r["subjects"],
    )


FEW_ANIMALS: Final = 100


def _rivals(request: ItemRequest) -> ItemContent:
    return results_table(
        request,
        labels={
            "Animals": lambda r: "few" if r["subjects"] < FEW_ANIMALS else "many",
            "Scorer": lambda r: r["printed_model"],
            "N": lambda r: f"{r['subjects']:,}",
        },
        columns=RIVAL_SCORES,
        caption=(
            "Recall and precision of each stage and overall, per cent, kappa 0 to 1; ours as mean "
            "of folds, its overall recall and precision weighted as the methods of the paper define"
        ),
        aggregate="mean of folds",
    )


MICE_MODELS: Final[Mapping[str, str]] = {
    "mouse-cnn": "CNN",
    "mouse-cnn-attention": "CNN + Attention",
    "mouse-transformer": "Transformer",
}
MMASLEEPNET: Final = frozenset({"mmasleepnet"})
SLUMBERNET: Final = frozenset({"slumbernet"})
CNN, ATTENTION, TRANSFORMER = (frozenset({name}) for name in MICE_MODELS)
FOLDS: Final = "s4-table-1"
UNSEEN: Final = "s4-table-3"

ARRANGEMENTS: Final[Mapping[str, Arrangement]] = {
    # MMASleepNet
    "s0-fig-1": Arrangement(
        partial(stage_waveforms, modalities=("eeg", "eog", "emg")),
        species=HUMAN,
        takes_runs=False,
        takes_epochs=True,
    ),
    "s0-table-1": Arrangement(
        partial(dataset_table, caption="Size and make-up of the data sets; shares in per cent"),
        species=HUMAN,
        takes_epochs=True,
    ),
    "s0-table-2": Arrangement(
        partial(
            branch_layer_table,
            caption="Layers of the branches: kernel/stride/filters, and kernel/stride of a pool, "
            "in samples",
        ),
        species=HUMAN,
        models=MMASLEEPNET,
    ),
    "s0-table-3": Arrangement(_by_dataset, species=HUMAN, external=False),
    "s0-fig-3": Arrangement(dataset_matrices, ("s0-table-3",), HUMAN, MMASLEEPNET, external=False),
    "s0-fig-4a": Arrangement(
        partial(
            variant_bars,
            variants=ABLATED,
            defaults=MMASLEEPNET_PARTS,
            full="MMASleepNet3",
            caption="What the parts of the fusion add, per cent",
        ),
        ("s0-table-3",),
        HUMAN,
        MMASLEEPNET,
        external=False,
    ),
    "s0-fig-4b": Arrangement(
        partial(
            variant_bars,
            variants=SIGNALS,
            defaults=MMASLEEPNET_PARTS,
            full="MMASleepNet3 (EEG, EOG, EMG)",
            caption="What the signals add, per cent",
        ),
        ("s0-table-3",),
        HUMAN,
        MMASLEEPNET,
        external=False,
    ),
    "s0-fig-5": Arrangement(fused_features, ("s0-table-3",), HUMAN, MMASLEEPNET, external=False),
    "s0-training-hours": Arrangement(
        partial(training_hours, caption="Hours of training of 100 passes"),
        species=HUMAN,
        external=False,
    ),
    "s0-text": _list("Numbers of the running text of MMASleepNet's paper"),
    # MASleepNet
    "s1-accuracies": Arrangement(
        _accuracies, species=HUMAN, models=frozenset({"masleepnet"}), external=False
    ),
    "s1-figures": Arrangement(
        partial(
            variant_bars,
            variants=MASLEEPNET,
            defaults=MASLEEPNET_PARTS,
            full="MASleepNet",
            caption="Ablations of MASleepNet, per cent",
        ),
        ("s1-accuracies",),
        HUMAN,
        frozenset({"masleepnet"}),
        external=False,
    ),
    # ULW-SleepNet
    "s3-headline": Arrangement(
        partial(headline_table, caption="Accuracy, size and cost of ULW-SleepNet"),
        species=HUMAN,
        models=frozenset({"ulw-sleepnet"}),
        external=False,
    ),
    "s3-tables": Arrangement(
        partial(model_costs_table, caption="Models with accuracy, size and cost, by our reading"),
        ("s3-headline",),
        HUMAN,
        external=False,
    ),
    # the mouse report
    "s2-fig-1": Arrangement(
        partial(training_accuracy_curve, caption="Accuracy on the training set by pass"),
        ("none",),
        MOUSE,
        SLUMBERNET,
        external=False,
    ),
    "s2-fig-2": Arrangement(pooled_matrix, ("none",), MOUSE, SLUMBERNET),
    "s2-fig-3": Arrangement(
        partial(stretch_of_signals, modalities=("emg", "eeg")),
        species=MOUSE,
        takes_runs=False,
        takes_epochs=True,
    ),
    "s2-fig-4": Arrangement(
        partial(division_counts, caption="Epochs of each stage in one division"),
        ("none",),
        MOUSE,
        external=False,
    ),
    "s2-fig-5": Arrangement(
        _mouse_cnn("Scores of the CNN by stage, fractions"), species=MOUSE, models=CNN
    ),
    "s2-fig-6": Arrangement(margin_matrix, species=MOUSE, models=CNN),
    "s2-fig-7": Arrangement(
        _mouse_cnn("Scores of the CNN with attention by stage, fractions"),
        species=MOUSE,
        models=ATTENTION,
    ),
    "s2-fig-8": Arrangement(margin_matrix, species=MOUSE, models=ATTENTION),
    "s2-table-i": Arrangement(
        partial(
            subject_accuracy_table,
            models=MICE_MODELS,
            caption="Accuracy on each mouse left out, per cent",
        ),
        species=MOUSE,
        models=frozenset(MICE_MODELS),
    ),
    "s2-transformer": Arrangement(
        partial(stage_scores_and_matrix, caption="Scores of the Transformer by stage, fractions"),
        ("s2-table-i",),
        MOUSE,
        TRANSFORMER,
    ),
    "s2-text": _list("Numbers of the running text of the mouse report"),
    # SlumberNet
    "s4-fig-1a": Arrangement(
        experiment_time_line,
        takes_runs=False,
        reason="it is the plan of the experiment, no measured data",
    ),
    "s4-fig-1b": _of_data("it is a drawing of the steps of preparation, no measured data"),
    "s4-fig-2a": Arrangement(
        prepared_epochs, ("none",), MOUSE, takes_runs=False, takes_epochs=True
    ),
    "s4-fig-2b": Arrangement(stage_spectra, ("none",), MOUSE, takes_runs=False, takes_epochs=True),
    "s4-fig-4a": Arrangement(
        partial(fold_curves, caption="Accuracy and loss while each fold trains"),
        (FOLDS,),
        MOUSE,
        SLUMBERNET,
        external=False,
    ),
    "s4-fig-4b": Arrangement(fold_matrices, (FOLDS,), MOUSE, SLUMBERNET, external=False),
    "s4-fig-4c": Arrangement(
        partial(fold_bars, caption="Overall scores of each fold"),
        (FOLDS,),
        MOUSE,
        SLUMBERNET,
        external=False,
    ),
    "s4-table-1": Arrangement(
        partial(
            fold_scores_table,
            level="fold",
            caption="Scores of each stage in each fold, per cent, kappa 0 to 1; accuracy and kappa "
            "are one stage against the rest",
        ),
        species=MOUSE,
        models=SLUMBERNET,
        external=False,
    ),
    "s4-table-2": Arrangement(_rivals, species=MOUSE, models=SLUMBERNET, external=False),
    "s4-fig-5a": Arrangement(stage_amount_bins, (UNSEEN,), MOUSE, SLUMBERNET, external=True),
    "s4-fig-5b": Arrangement(stage_amount_scatter, (UNSEEN,), MOUSE, SLUMBERNET, external=True),
    "s4-table-3": Arrangement(
        partial(
            fold_scores_table,
            level="subject",
            caption="Scores of each stage of the mice that were never trained on, per cent, kappa "
            "0 to 1; accuracy and kappa are one stage against the rest",
        ),
        species=MOUSE,
        models=SLUMBERNET,
        external=True,
    ),
    "s4-fig-6": Arrangement(human_inputs, ("none",), HUMAN, SLUMBERNET),
    "s4-table-s1": Arrangement(
        partial(weight_table, caption="Layers of SlumberNet with their weights"),
        ("none",),
        MOUSE,
        SLUMBERNET,
        external=False,
    ),
    "s4-scoring-time": Arrangement(
        partial(scoring_time_table, caption="Time of scoring"), ("none",), MOUSE, SLUMBERNET
    ),
    "s4-text": _list("Numbers of the running text of SlumberNet's paper"),
    "scorers": _list("Agreement of two human scorers"),
}
"""Item to its arrangement."""
