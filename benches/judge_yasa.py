"""How well does YASA stage simulated nights? A test of the simulator, not of YASA.

Nights that other software stages much better or worse than real ones are not realistic. YASA 0.8.1
(Vallat & Walker 2021, eLife 10:e70092) scores nights from C4-M1, EOG and a 100-Hz chin EMG; its
stages are compared to the simulated scorer's. Run it where yasa is installed:
`python benches/judge_yasa.py`.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

from instruments import provenance
from sleeptools.datasets.simulation.night import EXTRAS, SimulatedNight, simulate_night
from sleeptools.datasets.sleep_edf import CASSETTE_CHANNELS
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.recording.stages import HUMAN_STAGES, UNSCORED

RESULTS = Path(__file__).parent / "results"
YASA_STAGES = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 4, "WAKE": 0, "REM": 4}
GOALS = {"kappa": (0.65, 0.85), "N1": (0.30, 0.60), "others": (0.65, 1.0)}


def yasa_stages(night: SimulatedNight, eeg: str) -> np.ndarray:
    import mne
    import yasa

    labels = [eeg, "EOG horizontal", "EMG chin"]
    volts = np.stack([night.recording.signal(name).samples() * 1e-6 for name in labels])
    info = mne.create_info(labels, 100.0, ["eeg", "eog", "emg"])
    raw = mne.io.RawArray(volts, info, verbose="error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        staging = yasa.SleepStaging(raw, eeg_name=labels[0], eog_name=labels[1], emg_name=labels[2])
        predictions = staging.predict()
    texts = predictions.hypno if hasattr(predictions, "hypno") else predictions
    return np.array([YASA_STAGES[str(text)] for text in texts])


def agreement(truth: np.ndarray, stages: np.ndarray) -> dict[str, object]:
    f1 = f1_score(truth, stages, labels=range(5), average=None)
    return {
        "epochs": len(truth),
        "kappa": round(float(cohen_kappa_score(truth, stages)), 4),
        "f1": {name: round(float(v), 4) for name, v in zip(HUMAN_STAGES, f1, strict=True)},
        "confusion": confusion_matrix(truth, stages, labels=range(5)).tolist(),
    }


def judge(
    subjects: range, *, seed: int, hours: float, eeg: str, keep: Path | None = None
) -> dict[str, object]:
    scored, predicted, truth, whole = [], [], [], []
    for subject in subjects:
        night = simulate_night(
            subject, 1, hours=hours, seed=seed, channels=(*CASSETTE_CHANNELS, *EXTRAS)
        )
        assert night.recording.hypnogram is not None
        stages = night.recording.hypnogram.stages
        is_scored = stages != UNSCORED
        scored.append(stages[is_scored])
        whole.append(yasa_stages(night, eeg))
        predicted.append(whole[-1][is_scored])
        truth.append(night.truth[is_scored])
    yasa_result = agreement(np.concatenate(scored), np.concatenate(predicted))
    ceiling = agreement(np.concatenate(scored), np.concatenate(truth))
    if keep is not None:
        keep.write_text(json.dumps([stages.tolist() for stages in whole]))
    per_night = [
        round(float(cohen_kappa_score(s, f)), 3) for s, f in zip(scored, predicted, strict=True)
    ]
    return {"eeg": eeg, "yasa": yasa_result, "ceiling": ceiling, "kappa_per_night": per_night}


def passed(result: dict[str, object]) -> bool:
    yasa_result = result["yasa"]
    assert isinstance(yasa_result, dict)
    f1 = dict(yasa_result["f1"])
    n1 = f1.pop("N1")
    return (
        GOALS["kappa"][0] <= yasa_result["kappa"] <= GOALS["kappa"][1]
        and GOALS["N1"][0] <= n1 <= GOALS["N1"][1]
        and min(f1.values()) > GOALS["others"][0]
    )


def markdown(report: dict[str, object]) -> str:
    lines = [
        "# YASA on simulated nights",
        "",
        f"{report['nights']} nights of {report['hours']:g} h, seed {report['seed']}, "
        f"YASA {report['yasa_version']}, {report['machine']}, "
        f"{report['commit']}. Labels are the simulated scorer's; "
        "the ceiling is the stages that made the signals against those labels.",
        "",
        "| scorer | kappa | " + " | ".join(f"F1 {n}" for n in HUMAN_STAGES) + " |",
        "|---|" + "---|" * 6,
    ]
    for result in report["results"]:  # type: ignore[attr-defined]
        rows = [(f"YASA, {result['eeg']}", result["yasa"])]
        if result is report["results"][0]:  # type: ignore[index]
            rows.append(("ceiling", result["ceiling"]))
        lines += [
            f"| {name} | {row['kappa']:.3f} | "
            + " | ".join(f"{v:.3f}" for v in row["f1"].values())
            + " |"
            for name, row in rows
        ]
    goal = "yes" if report["goals_met"] else "no"
    lines += [
        "",
        "Goals, on C4-M1: kappa 0.65 to 0.85, F1 of N1 0.30 to 0.60, F1 of every other stage above "
        f"0.65. Met: {goal}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    import yasa

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=provenance.HELD_OUT_SEED)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--eeg", default="EEG C4-M1,EEG Fpz-Cz")
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    parser.add_argument("--stages", type=Path, help="JSON to write: YASA's stages of each night")
    args = parser.parse_args()
    began = time.perf_counter()
    results = [
        judge(range(args.subjects), seed=args.seed, hours=args.hours, eeg=eeg, keep=args.stages)
        for eeg in args.eeg.split(",")
    ]
    report: dict[str, object] = {
        "seed": args.seed,
        "nights": args.subjects,
        "hours": args.hours,
        "yasa_version": yasa.__version__,
        "simulator": SIMULATOR,
        "commit": provenance.commit(),
        "machine": provenance.machine("numpy"),
        "seconds": round(time.perf_counter() - began, 1),
        "goals_met": passed(results[0]),
        "results": results,
    }
    print(markdown(report))
    for result in results:
        print(result["eeg"], result["kappa_per_night"], *result["yasa"]["confusion"], sep="\n")  # type: ignore[index]
    if str(args.out) != "-":
        (args.out / "judge_yasa.json").write_text(json.dumps(report, indent=1) + "\n")
        (args.out / "judge_yasa.md").write_text(markdown(report))


if __name__ == "__main__":
    main()
