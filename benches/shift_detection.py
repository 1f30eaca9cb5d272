"""Are shifts of a scoring by whole epochs found, and none between different nights? 39 nights.

The 39 nights of Sleep-EDF-20 as a person scored them, against copies that were scored again with
errors, shifted by -3 to 3 epochs, laid on a grid 7 s off, and without their first hour. And each
night against each other one, as if both began together. `SLEEPTOOLS_TEST_DATA=FOLDER python
benches/shift_detection.py` writes benches/results/shift_detection.json and .md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from instruments import provenance
from sleeptools import store
from sleeptools.datasets.simulation import scorer
from sleeptools.evaluation import metrics, shift
from sleeptools.evaluation.shift import Shift, find_shift
from sleeptools.recording.common_grid import align
from sleeptools.recording.hypnogram import Hypnogram

RESULTS = Path(__file__).parent / "results"
CODES = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 4, "R": 5, "?": -1}
STAGES = np.array([0, 1, 2, 3, 3, 4, -1, -1, -1], np.int8)  # of R&K codes, -1 at the end
NEIGHBOURS = {0: (1,), 1: (0, 2, 4), 2: (1, 3), 3: (2,), 4: (1, 2)}
KAPPA = 0.76
AROUND = 60  # epochs of wake on either side of the night
SHIFTS = range(-3, 4)
HOUR, OFF_GRID = 120, 7.0  # epochs that are missing; s
START = datetime(2000, 1, 1, 16, 0)


def read_nights(folder: Path) -> dict[str, np.ndarray]:
    """R&K codes of every night."""
    with (folder / "sleep-edf/sc_stage_letters.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return {name: np.array([CODES[c] for c in letters], np.int8) for name, letters in rows}


def kappa(first: np.ndarray, second: np.ndarray) -> float:
    both = (first >= 0) & (second >= 0)
    return float(metrics.kappa(metrics.confusion_matrix(first[both], second[both], 5)))


def night_of(codes: np.ndarray) -> slice:
    """From half an hour before sleep to half an hour after."""
    asleep = np.flatnonzero(codes > 0)
    return slice(max(int(asleep[0]) - AROUND, 0), int(asleep[-1]) + AROUND)


def scored_again(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes as the simulated scorer gives them; unscored epochs stay so."""
    scored = (codes >= 0) & (codes < scorer.UNKNOWN_CODE)
    again = scorer.score(rng, np.where(scored, codes, 0).astype(np.int8)).codes
    return np.where(scored, again, -1).astype(np.int8)


def down_to_target(
    truth: np.ndarray, made: Callable[[int], np.ndarray], most: int, inside: slice
) -> np.ndarray:
    """Make the copy with the fewest errors, up to `most`, whose kappa has come down to `KAPPA`."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        is_below = kappa(truth[inside], made(middle)[inside]) < KAPPA
        low, high = (low, middle) if is_below else (middle, high)
    return made(high)


def confused(stages: np.ndarray, truth: np.ndarray, inside: slice, rng: np.random.Generator):
    """Stages of single epochs taken for neighbouring ones until kappa is down."""
    order = rng.permutation(np.flatnonzero(stages >= 0))
    mistaken = np.array([rng.choice(NEIGHBOURS[int(s)]) if s >= 0 else -1 for s in stages])

    def made(count: int) -> np.ndarray:
        copy = stages.copy()
        copy[order[:count]] = mistaken[order[:count]]
        return copy

    return down_to_target(truth, made, len(order), inside)


def once(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return STAGES[scored_again(codes, rng)]


def once_then_confused(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return confused(once(codes, rng), STAGES[codes], night_of(codes), rng)


def confused_alone(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return confused(STAGES[codes], STAGES[codes], night_of(codes), rng)


def once_then_confused_all_day(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return confused(once(codes, rng), STAGES[codes], slice(None), rng)


def again_and_again(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scored by one simulated scorer from another's scoring until kappa is down."""
    truth, inside, copy = STAGES[codes], night_of(codes), codes
    while True:
        worse = scored_again(copy, rng)
        if kappa(truth[inside], STAGES[worse][inside]) < KAPPA:
            break
        copy = worse

    def made(count: int) -> np.ndarray:
        return STAGES[np.concatenate([worse[:count], copy[count:]])]

    return down_to_target(truth, made, len(codes), inside)


WAYS = {
    "the simulated scorer once": once,
    "the same, then single epochs confused, to 0.76 in the night": once_then_confused,
    "the same, to 0.76 over the whole day": once_then_confused_all_day,
    "single epochs confused, to 0.76 in the night": confused_alone,
    "the simulated scorer on its own scoring, to 0.76 in the night": again_and_again,
}


def compared(stages: np.ndarray, copy: np.ndarray, by: int) -> Shift:
    """Shift found for a copy whose stages are `by` epochs late, off the grid and an hour short."""
    late = np.full(len(copy), -1, np.int8)
    begin, stop = max(0, by), min(len(copy), len(copy) + by)
    late[begin:stop] = copy[begin - by : stop - by]
    first = Hypnogram(stages.astype(np.int8), begin=START)
    later = START + timedelta(seconds=HOUR * 30 + OFF_GRID)
    second = Hypnogram(late[HOUR:], begin=later)
    aligned = align([first, second], ["A", "B"])
    return find_shift(aligned.stages[0], aligned.stages[1], 5)


def found_by(way: Callable, nights: dict[str, np.ndarray], seeds: range) -> dict[str, object]:
    """How often each shift is found, of all nights and seeds."""
    right = doubtful = 0
    wrong: list[list[int]] = []
    false = 0
    kappas, sharp = [], []
    for seed in seeds:
        for number, codes in enumerate(nights.values()):
            copy = way(codes, np.random.default_rng([seed, number]))
            inside = night_of(codes)
            kappas.append(kappa(STAGES[codes][inside], copy[inside]))
            for by in SHIFTS:
                result = compared(STAGES[codes], copy, by)
                sharp.append(result.sharpness)
                right += result.epochs == -by
                doubtful += result.is_doubtful
                false += by == 0 and result.epochs != 0
                if result.epochs != -by:
                    wrong.append([-by, result.epochs])
    return {
        "kappa": round(float(np.mean(kappas)), 3),
        "copies": len(sharp),
        "found": int(right),
        "doubtful": int(doubtful),
        "reported_unshifted": int(false),
        "wrong": wrong,
        "least_sharp": round(float(np.min(sharp)), 2),
    }


def different(nights: dict[str, np.ndarray]) -> dict[str, object]:
    """How often a shift is reported between different nights."""
    reported, sharp = 0, []
    for name, codes in nights.items():
        for another, others in nights.items():
            if name != another:
                pair = [Hypnogram(STAGES[c], begin=START) for c in (codes, others)]
                aligned = align(pair, ["A", "B"])
                result = find_shift(aligned.stages[0], aligned.stages[1], 5)
                reported += result.epochs != 0
                sharp.append(result.sharpness)
    return {"pairs": len(sharp), "reported": reported, "sharpest": round(float(max(sharp)), 2)}


def markdown(result: dict) -> str:
    rows = [
        f"| {name} | {row['kappa']:.2f} | {row['copies']} | {row['found']} | {row['doubtful']} | "
        f"{row['reported_unshifted']} | {row['least_sharp']:.1f} |"
        for name, row in result["same"].items()
    ]
    nights, others = result["nights"], result["different"]
    return "\n".join(
        [
            "# Shifts between scorings",
            "",
            f"{nights} real nights (Sleep-EDF-20, scored by a person) against copies that were "
            "scored again, shifted by -3 to 3 epochs, on a grid 7 s off and without their first "
            f"hour; {result['seeds']} seeds. Found: the very shift, and none where there is none.",
            "",
            "| scored again by | kappa in the night | copies | found | of them or of others "
            "doubtful | reported unshifted | least sharp |",
            "|---|--:|--:|--:|--:|--:|--:|",
            *rows,
            "",
            f"{others['pairs']} pairs of different nights: {others['reported']} reported, the "
            f"sharpest peak {others['sharpest']:.1f}; from {shift.SHARPNESS:g} on a peak counts.",
            "",
            "The last row is of copies whose stages begin truly at other epochs: each pass of the "
            "simulated scorer moves every change of stage once more.",
            "",
            f"Measured on {result['machine']}; {result['commit']}; {result['seconds']:.0f} s.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    begun = time.perf_counter()
    nights = read_nights(Path(os.environ["SLEEPTOOLS_TEST_DATA"]))
    result: dict = {"nights": len(nights), "seeds": options.seeds}
    seeds = range(options.seeds)
    result["same"] = {name: found_by(way, nights, seeds) for name, way in WAYS.items()}
    result["different"] = different(nights)
    result["machine"] = provenance.machine("numpy")
    result["commit"] = provenance.commit()
    result["seconds"] = time.perf_counter() - begun
    store.write_json(RESULTS / "shift_detection.json", result)
    store.write_text(RESULTS / "shift_detection.md", markdown(result))
    print(json.dumps(result["different"]), "\n", markdown(result))


if __name__ == "__main__":
    main()
