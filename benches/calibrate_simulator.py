"""Fit the simulator's constants to real nights, and judge what it makes of them on other nights.

FEATURES.npz holds levels of Fpz-Cz and Pz-Oz of each epoch of ten Sleep-Cassette nights (arrays
`features`, (epochs, 14) as `realism.band_levels` gives them, `stages`, `subject`, `night`).
`python benches/calibrate_simulator.py FEATURES.npz` fits on all of them and writes
sleeptools/datasets/simulation/human.toml and sleep_cassette_spectra.csv; it then fits on some
subjects, tests a classifier that learnt from those nights alone on the other subjects, and the
other way round, and writes benches/results/calibrate_simulator.json and .md. `--judge` leaves the
constants as they are. It takes about twenty minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import itertools
import re
from pathlib import Path

import numpy as np
import polars as pl
import tomli_w
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import cohen_kappa_score, f1_score
from threadpoolctl import threadpool_limits

from instruments import provenance
from instruments.fitting import FIT_SEED, Nights, fit, read, rms, simulate
from sleeptools import store
from sleeptools.datasets.simulation import calibration, realism
from sleeptools.datasets.simulation.calibration import Calibration, calibrated
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.recording.stages import HUMAN_STAGES

RESULTS = Path(__file__).parent / "results"
HALVES = ((0, 1, 2), (3, 4))  # subjects
JUDGE_SEED = 404
WAKE = HUMAN_STAGES.index("W")
CONTEXT = 5  # epochs on either side
GOALS = {
    "psd_rms_db": (0.0, 1.6),
    "cells_over_4_db": (0, 0),
    "overlap": (0.70, 1.0),
    "between_ratio": (0.7, 1.4),
    "within_ratio": (0.75, 1.3),
    "exponent_error": (0.0, 0.3),
    "wake_eog_correlation": (0.0, 0.15),
    "transfer_kappa": (0.68, 1.0),
    "transfer_n1": (0.25, 1.0),
    "transfer_rem": (0.70, 1.0),
}
TITLES = {
    "psd_rms_db": "error of the 50 median levels, dB rms",
    "cells_over_4_db": "of these off by more than 4 dB",
    "overlap": "overlap of the distributions",
    "between_ratio": "spread between nights, of the real one",
    "within_ratio": "spread within nights, of the real one",
    "exponent_error": "largest error of a 1/f exponent",
    "wake_eog_correlation": "correlation of Fpz-Cz and EOG in wake, 0.5-4 Hz",
    "transfer_kappa": "kappa on real nights, mean of both halves",
    "transfer_n1": "F1 of N1 on real nights, the lesser of both halves",
    "transfer_rem": "F1 of REM on real nights, the lesser of both halves",
}
ATTRIBUTION = """\
# Levels of ten Sleep-Cassette nights (SC400 to SC404) in dB re 1 uV^2/Hz: median of the nights'
# medians, their standard deviation, the standard deviation within a night, quartiles of all epochs.
# Contains information from Sleep-EDF Expanded 1.0.0 (Kemp et al. 2000; PhysioNet), which is made
# available under the ODC Attribution License 1.0, by way of the features of each epoch that
# matteo-omizzolo/sleep-EDF published (MIT). Written by benches/calibrate_simulator.py.
"""
CONSTANTS_HEAD = """\
# Levels and spreads of the simulated human EEG; calibration.py says what each is. Written by
# benches/calibrate_simulator.py, which fitted them to Fpz-Cz (frontal) and Pz-Oz (posterior) of ten
# nights of Sleep-EDF Expanded (Kemp et al. 2000; PhysioNet; ODC-By 1.0): see realism.py.
# Levels are uV, spreads of a logarithm; a row has one value for each of the rhythms.

"""


def compare(ours: Nights, real: Nights) -> dict[str, float]:
    """How near simulated nights are to real ones."""
    a, b = ours.statistics(), real.statistics()
    error = a["median"] - b["median"]
    exponent = realism.exponents(a["median"]) - realism.exponents(b["median"])
    return {
        "psd_rms_db": round(rms(error), 2),
        "worst_cell_db": round(float(abs(error).max()), 2),
        "cells_over_4_db": int((abs(error) > 4).sum()),
        "overlap": round(overlap(ours, real), 3),
        "between_ratio": round(float(np.median(a["between"] / b["between"])), 2),
        "within_ratio": round(float(np.median(a["within"] / b["within"])), 2),
        "exponent_error": round(float(abs(exponent).max()), 2),
    }


def overlap(ours: Nights, real: Nights) -> float:
    """Share that the distributions of a stage, lead and band have in common; mean over them."""
    shares = []
    x, y = (realism.bands_only(n.levels).reshape(len(n.levels), -1) for n in (ours, real))
    for stage in range(len(HUMAN_STAGES)):
        for a, b in zip(x[ours.stages == stage].T, y[real.stages == stage].T, strict=True):
            edges = np.linspace(*np.percentile(np.r_[a, b], [0.5, 99.5]), 40)
            p, q = (
                np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / len(v) for v in (a, b)
            )
            shares.append(np.minimum(p, q).sum())
    return float(np.mean(shares))


def in_context(nights: Nights) -> np.ndarray:
    """Levels as z-scores of their night, with neighbours and a mean of the near: (epochs, 84)."""
    weights = np.r_[1 : CONTEXT + 2, CONTEXT:0:-1].astype(float)
    rows = np.empty((len(nights.levels), 6 * nights.levels.shape[1]))
    for night in np.unique(nights.nights):
        of_night = nights.nights == night
        x = nights.levels[of_night]
        x = (x - x.mean(0)) / (x.std(0) + 1e-9)
        padded = np.pad(x, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
        shifted = [padded[i : i + len(x)] for i in range(2 * CONTEXT + 1)]
        near = [shifted[CONTEXT + d] for d in (-2, -1, 1, 2)]
        smooth = np.tensordot(weights / weights.sum(), shifted, axes=1)
        rows[of_night] = np.hstack([x, *near, smooth])
    return rows


def transfer(training: Nights, test: Nights) -> dict[str, object]:
    """Kappa and F1 of gradient boosting that learns from some nights and stages others."""
    model = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.08,
        max_leaf_nodes=15,
        min_samples_leaf=40,
        l2_regularization=1.0,
        max_features=0.5,
        random_state=0,
        early_stopping=False,
    )
    with threadpool_limits(1):  # its threads wait for each other, which busy cores make slow
        model.fit(in_context(training), training.stages)
        predicted = model.predict(in_context(test))
    f1 = f1_score(test.stages, predicted, average=None, labels=range(5))
    each = [
        cohen_kappa_score(test.stages[test.nights == n], predicted[test.nights == n])
        for n in np.unique(test.nights)
    ]
    return {
        "kappa": round(float(cohen_kappa_score(test.stages, predicted)), 3),
        "kappa_worst_night": round(float(min(each)), 3),
        "f1": {n: round(float(v), 3) for n, v in zip(HUMAN_STAGES, f1, strict=True)},
    }


def wake_eog_correlation(nights: int, constants: Calibration, *, seed: int) -> float:
    """Correlation of Fpz-Cz with the EOG at 0.5 to 4 Hz in wake; median of the nights' sizes."""
    from scipy import signal

    sos = signal.butter(4, realism.BANDS["delta"], "bandpass", fs=realism.RATE, output="sos")
    sizes = []
    for subject in range(nights):
        night = simulate_night(subject, 1, hours=8.0, seed=seed, calibration=constants)
        assert night.recording.hypnogram is not None
        awake = np.repeat(night.recording.hypnogram.stages == WAKE, realism.SAMPLES)
        pair = [
            signal.sosfiltfilt(sos, night.recording.signal(name).samples()[: len(awake)])[awake]
            for name in ("EEG Fpz-Cz", "EOG horizontal")
        ]
        sizes.append(abs(np.corrcoef(pair)[0, 1]))
    return round(float(np.median(sizes)), 3)


# --- results --------------------------------------------------------------------------------------


def write_constants(constants: Calibration, real: Nights) -> None:
    """Write the constants and the statistics that they were fitted to into the package."""
    text = tomli_w.dumps(constants.table())
    rows = re.sub(r"\[\n([^\]]*)\]", lambda m: f"[{' '.join(m[1].split()).rstrip(',')}]", text)
    store.write_text(calibration.FILE, CONSTANTS_HEAD + rows)
    statistics = real.statistics()
    names = [
        dict(zip(("stage", "lead", "band"), row, strict=True))
        for row in itertools.product(HUMAN_STAGES, realism.LEADS, realism.BANDS)
    ]
    columns = {name: values.round(2).ravel() for name, values in statistics.items()}
    store.write_text(
        realism.SPECTRA,
        ATTRIBUTION
        + pl.DataFrame(names)
        .with_columns(**{name: pl.Series(values) for name, values in columns.items()})
        .write_csv(),
    )


def judge_halves(real: Nights, options: argparse.Namespace) -> list[dict[str, object]]:
    """Fit on some subjects, and test on the others what learnt from those nights alone."""
    rows: list[dict[str, object]] = []
    for fitted, tested in (HALVES, HALVES[::-1]):
        constants = fit(real.of(fitted), nights=options.fit_nights, rounds=options.rounds)
        ours = simulate(options.nights, constants, seed=JUDGE_SEED)
        rows.append(
            {
                "fitted": fitted,
                "tested": tested,
                **compare(ours, real.of(fitted)),
                "simulated_to_real": transfer(ours, real.of(tested)),
                "real_to_real": transfer(real.of(fitted), real.of(tested)),
            }
        )
        print(rows[-1], flush=True)
    return rows


def judge(real: Nights, options: argparse.Namespace) -> dict[str, object]:
    """Judge the constants of the package, and the way in which they were fitted."""
    ours = simulate(options.nights, calibrated(), seed=JUDGE_SEED)
    whole = compare(ours, real)
    whole["wake_eog_correlation"] = wake_eog_correlation(4, calibrated(), seed=JUDGE_SEED)
    print(whole, flush=True)
    halves = judge_halves(real, options)
    whole |= transferred(halves)
    return {
        "nights": options.nights,
        "fit_nights": options.fit_nights,
        "rounds": options.rounds,
        "seed": JUDGE_SEED,
        "simulator": SIMULATOR,
        "commit": provenance.commit(),
        "machine": provenance.machine("numpy", "scikit-learn"),
        "whole": whole,
        "goals_met": {k: low <= whole[k] <= high for k, (low, high) in GOALS.items()},
        "all_ten_to_all_ten": transfer(ours, real),
        "halves": halves,
    }


def transferred(halves: list[dict[str, object]]) -> dict[str, float]:
    """Sum up what is learnt from simulated nights and tested on the subjects left out."""
    rows: list[dict] = [half["simulated_to_real"] for half in halves]  # type: ignore[misc]
    return {
        "transfer_kappa": round(float(np.mean([row["kappa"] for row in rows])), 3),
        "transfer_n1": min(row["f1"]["N1"] for row in rows),
        "transfer_rem": min(row["f1"]["REM"] for row in rows),
    }


def markdown(report: dict) -> str:
    whole, met = report["whole"], report["goals_met"]
    lines = [
        "# Simulated nights beside real ones",
        "",
        f"Simulator {report['simulator']}, {report['nights']} nights of 8 h, "
        f"seed {report['seed']}, beside ten nights of five subjects of "
        "Sleep-EDF Expanded (Kemp et al. 2000, ODC-By 1.0), "
        f"to which the constants were fitted on seed {FIT_SEED}. {report['machine']}, "
        f"{report['commit']}.",
        "",
        "| measure | value | goal | met |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {TITLES[k]} | {whole[k]:g} | {low:g} to {high:g} | {'yes' if met[k] else 'no'} |"
        for k, (low, high) in GOALS.items()
    ]
    lines += [
        "",
        "Gradient boosting on band levels, z-scored over the night, with the five epochs on either "
        "side. Fitted constants and classifier know nothing of the subjects that it is tested on. "
        "What is not fitted (which transitions are rare, drift, arousals, how much a subject's "
        "stages differ) was chosen by looking at these nights, so that the kappa of others may be "
        "lower:",
        "",
        "| learnt from | tested on | kappa | worst night | "
        + " | ".join(f"F1 {n}" for n in HUMAN_STAGES)
        + " |",
        "|---|---|---|---|" + "---|" * 5,
    ]
    for half in report["halves"]:
        fitted, tested = (
            ", ".join(f"SC4{s:02d}" for s in half[name]) for name in ("fitted", "tested")
        )
        for key, name in (("simulated_to_real", "simulated after"), ("real_to_real", "real")):
            row = half[key]
            f1 = " | ".join(f"{v:.2f}" for v in row["f1"].values())
            lines.append(
                f"| {name} {fitted} | {tested} | {row['kappa']:.3f} | "
                f"{row['kappa_worst_night']:.3f} | {f1} |"
            )
    row = report["all_ten_to_all_ten"]
    return "\n".join(
        [
            *lines,
            "",
            f"With constants fitted to all ten nights and tested on them: {row['kappa']:.3f}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("--judge", action="store_true", help="keep the constants as they are")
    parser.add_argument("--nights", type=int, default=24, help="simulated nights to judge by")
    parser.add_argument("--fit-nights", type=int, default=8, help="and to fit by")
    parser.add_argument("--rounds", type=int, default=5, help="of simulating and correcting")
    options = parser.parse_args()
    real = read(options.features)
    if not options.judge:
        constants = fit(real, nights=options.fit_nights, rounds=options.rounds)
        write_constants(constants, real)
        calibrated.cache_clear()
    report = judge(real, options)
    store.write_json(RESULTS / "calibrate_simulator.json", report)
    store.write_text(RESULTS / "calibrate_simulator.md", markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
