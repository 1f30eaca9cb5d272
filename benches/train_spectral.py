"""Train `spectral`, the default model, on simulated nights, and judge it on real ones.

FEATURES.npz is that of calibrate_simulator.py: levels of ten Sleep-Cassette nights of five people.
`python benches/train_spectral.py FEATURES.npz` judges first: the simulator's constants are fitted
to some of the people, the recipe is chosen on these, and what learnt from nights of these constants
stages the nights of the others; then the other way round. No night is staged by what was fitted to
it or chosen on it. The model that ships learns from the package's own constants, by the recipe that
was best in this. Writes sleeptools/inference/default_model and benches/results/spectral.json and
.md, in about 25 minutes of one core; the same seeds give the same arrays on the same machine.
YASA, which an environment of its own has (`make judge`), stages simulated nights for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score, f1_score
from torch.nn import functional

from calibrate_simulator import HALVES, fit, read
from instruments import provenance
from night import whole_process
from sleeptools import store
from sleeptools.commands import simulate
from sleeptools.commands.score.paths import DEFAULT, SHIPPED
from sleeptools.datasets import SimulatedChannel
from sleeptools.datasets.simulation import realism
from sleeptools.datasets.simulation.calibration import Calibration, calibrated
from sleeptools.datasets.simulation.night import EXTRAS, SimulatedNight, simulate_night
from sleeptools.datasets.sleep_edf import CASSETTE_CHANNELS
from sleeptools.evaluation.bootstrap import bootstrap_interval
from sleeptools.inference import leads, spectral
from sleeptools.inference.recordings import LEAST_SECONDS
from sleeptools.inference.weights import Weights
from sleeptools.models.folder import build_model
from sleeptools.models.spectral import Member
from sleeptools.preprocessing.presets import Preset
from sleeptools.recording.montage import MontageChannel
from sleeptools.recording.signals.band_levels import BANDS, band_levels
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.recording.stages import HUMAN_STAGES, UNSCORED
from sleeptools.runs import model_folder
from sleeptools.runs.temperature import uncalibrated

RESULTS = Path(__file__).parent / "results"
YASA = Path(__file__).parents[1] / ".venv-bench/bin/python"
LEADS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EEG C4-M1", "EEG F4-M1", "EEG O2-M1")
CHANNELS = tuple(SimulatedChannel(lead, lead, 100.0, -500.0, 500.0) for lead in LEADS)
WANTED = (  # the best first; two of different places where there are
    *("EEG C4-M1", "EEG F4-M1", "EEG C3-M2", "EEG F3-M2", "EEG Fpz-Cz", "EEG Pz-Oz"),
    *("EEG C4-M2", "EEG C3-M1", "EEG F4-M2", "EEG F3-M1", "EEG Cz-M1", "EEG Cz-M2"),
    *("EEG Fz-M1", "EEG Fz-M2", "EEG Fpz-M1", "EEG Fpz-M2", "EEG O2-M1", "EEG O1-M2"),
)
TRAIN_SEED, TEST_SEED = 5000, provenance.HELD_OUT_SEED
HOURS = (6.5, 9.5)  # length of a training night
DAYS, HALF_A_DAY = 5, 15.0  # one of so many nights is longer, h
MEMBERS, WIDTH = 3, 32
BATCH, LENGTH = 48, 200  # sequences of a step, and their epochs
MARGINS = (20, 90)  # epochs of wake before and after sleep over which a night is scaled
RATE, DECAY = 6e-3, 1e-2
BLUR = (0.15, 0.70, 0.15)  # of a stage over its neighbours
LEAST_KAPPA, LEAST_NIGHT = 0.68, 0.50  # below either, it does not ship


@dataclass(frozen=True)
class Recipe:
    """How the levels of a training night are shaken, and whose stages are learnt.

    `shake` is the standard deviation, dB, of what is added to a band of a stage in all leads and
    in one; `truth` the share of sequences with the stages that made the signals.
    """

    shake: float
    truth: float


RECIPES = (Recipe(0.5, 0.5), Recipe(1.0, 0.0), Recipe(1.0, 1.0), Recipe(2.0, 0.5))


@dataclass(frozen=True)
class Night:
    """Levels (epochs, leads, bands) dB, and of each epoch the scorer's and the true stage."""

    levels: np.ndarray
    stages: np.ndarray
    truth: np.ndarray
    subject: int = -1

    def period(self, before: int, after: int) -> np.ndarray:
        """Mark sleep and so many epochs on either side."""
        asleep = np.flatnonzero(self.stages > 0)
        number = np.arange(len(self.stages))
        return (number >= asleep[0] - before) & (number <= asleep[-1] + after)


# --- nights ---------------------------------------------------------------------------------------


def pool(constants: Calibration, count: int, *, seed: int = TRAIN_SEED) -> list[Night]:
    """Simulate nights of different people, every other one randomised, some with half a day."""
    rng = np.random.default_rng(seed)
    nights = []
    for subject in range(count):
        hours = float(rng.uniform(*HOURS)) if subject % DAYS else HALF_A_DAY
        night = simulate_night(
            subject,
            1,
            hours=hours,
            seed=seed,
            channels=CHANNELS,
            calibration=constants,
            randomise=subject % 2 == 1,
        )
        assert night.recording.hypnogram is not None
        stages = night.recording.hypnogram.stages
        nights.append(Night(levels_of(night, LEADS), stages, night.truth[: len(stages)]))
    return nights


def levels_of(night: SimulatedNight, leads: Sequence[str]) -> np.ndarray:
    assert night.recording.hypnogram is not None
    size = len(night.recording.hypnogram) * realism.SAMPLES
    signals = [night.recording.signal(lead).samples()[:size] for lead in leads]
    rows = [band_levels(s.reshape(-1, realism.SAMPLES))[:, : len(BANDS)] for s in signals]
    return np.stack(rows, 1)


def real_nights(path: Path) -> list[Night]:
    real = read(path)
    levels, nights = realism.bands_only(real.levels), []
    for number in np.unique(real.nights):
        here = real.nights == number
        stages = real.stages[here]
        nights.append(Night(levels[here], stages, stages, int(real.subjects[here][0])))
    return nights


# --- learning -------------------------------------------------------------------------------------


def shaken(levels: np.ndarray, truth: np.ndarray, rng: np.random.Generator, size: float):
    """Add to a lead's levels (epochs, bands) what another person and amplifier might: dB.

    An offset for each stage, alike in neighbouring bands; a wider or narrower spread of each band;
    and a slow drift.
    """
    size *= rng.uniform(0.0, 1.5)
    offset = rng.standard_normal((len(HUMAN_STAGES), len(BANDS)))
    offset = 0.75 * offset + 0.4 * np.roll(offset, 1, axis=1)
    sharp = np.pad(np.eye(len(HUMAN_STAGES))[truth], ((1, 1), (0, 0)), mode="edge")
    weights = BLUR[0] * sharp[:-2] + BLUR[1] * sharp[1:-1] + BLUR[2] * sharp[2:]
    spread = 0.08 * rng.standard_normal(len(BANDS)) * (levels - levels.mean(0))
    turns = rng.uniform(0.3, 1.5, len(BANDS)) * np.linspace(0, 1, len(levels))[:, None]
    drift = np.sin(2 * np.pi * (turns + rng.random(len(BANDS))))
    drift *= 0.5 * rng.standard_normal(len(BANDS))
    return levels + size * (weights @ offset + spread + drift)


def sequences(
    nights: Sequence[Night], recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield sequences of scaled levels (LENGTH, bands) and stages without end, two of a night."""
    while True:
        night = nights[rng.integers(len(nights))]
        lead = rng.integers(len(LEADS))
        levels = shaken(night.levels[:, lead], night.truth, rng, recipe.shake)
        scaled = spectral.scaled(levels, night.period(*rng.integers(*MARGINS, 2)))
        for _ in range(2):
            stages = night.truth if rng.random() < recipe.truth else night.stages
            first = rng.integers(len(levels) - LENGTH)
            yield scaled[first : first + LENGTH], stages[first : first + LENGTH]


def learn(nights: Sequence[Night], recipe: Recipe, steps: int, *, seed: int) -> Member:
    """Train one member of the committee."""
    torch.manual_seed(seed)
    member: Member = build_model("spectral", {"width": WIDTH}).members[0]  # type: ignore[index,assignment]
    member.train()
    optimiser = torch.optim.AdamW(member.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    supply = sequences(nights, recipe, np.random.default_rng(seed))
    for _ in range(steps):
        batch = [next(supply) for _ in range(BATCH)]
        x, y = (torch.from_numpy(np.stack(part)) for part in zip(*batch, strict=True))
        logits = member(x.float()).flatten(0, 1)
        loss = functional.cross_entropy(logits, y.long().flatten(), ignore_index=UNSCORED)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(member.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return member.eval()


def arrays_of(members: Sequence[Member]) -> dict[str, np.ndarray]:
    return {
        f"members.{i}.{name}": value.numpy()
        for i, member in enumerate(members)
        for name, value in member.state_dict().items()
    }


def config_of(members: Sequence[Member]) -> dict[str, object]:
    model = build_model("spectral", {"width": WIDTH, "members": len(members)})
    config: dict[str, object] = model.config.model_dump()  # type: ignore[union-attr,operator]
    return config


def network_of(members: Sequence[Member]) -> spectral.Network:
    """Make what ships of trained members: the network in NumPy."""
    return spectral.Network(config_of(members), Weights(arrays_of(members), Path("members")))


# --- judging --------------------------------------------------------------------------------------


def stage(network: spectral.Network, levels: np.ndarray) -> np.ndarray:
    """Stage a night (epochs, leads, bands) by all its leads, as `score` joins them."""
    numbers = np.arange(len(levels))
    densities = [network.score_night(lead, numbers) for lead in levels.swapaxes(0, 1)]
    return np.log(np.stack(densities) + 1e-6).mean(0).argmax(1)


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    scored = (a != UNSCORED) & (b != UNSCORED)
    return float(cohen_kappa_score(a[scored], b[scored]))


def mean_kappa(network: spectral.Network, nights: Sequence[Night]) -> float:
    return float(np.mean([kappa(n.stages, stage(network, n.levels)) for n in nights]))


def interval(values: Sequence[float], groups: Sequence[int]) -> list[float]:
    """Return mean and 95 % interval of nights' values; groups of nights are drawn."""
    of_group = [[v for v, g in zip(values, groups, strict=True) if g == h] for h in set(groups)]
    sums, counts = (np.array([f(v) for v in of_group]) for f in (sum, len))
    bounds = bootstrap_interval(lambda w: (w @ sums) / (w @ counts), len(of_group))
    return [round(float(v), 3) for v in bounds]


def judged(pairs: Sequence[tuple[Night, np.ndarray]]) -> dict[str, object]:
    """Describe predictions: kappa of each night, its mean with intervals, and by stage."""
    each = [kappa(night.stages, predicted) for night, predicted in pairs]
    truth = np.concatenate([night.stages for night, _ in pairs])
    predicted = np.concatenate([stages for _, stages in pairs])
    f1 = f1_score(truth, predicted, average=None, labels=range(len(HUMAN_STAGES)))
    alone = [kappa((truth == s).astype(int), (predicted == s).astype(int)) for s in range(5)]
    return {
        "kappa": [round(v, 3) for v in each],
        "mean": interval(each, range(len(each))),
        "mean_over_subjects": interval(each, [night.subject for night, _ in pairs]),
        "worst": round(min(each), 3),
        "pooled": round(kappa(truth, predicted), 3),
        "f1": dict(zip(HUMAN_STAGES, f1.round(3).tolist(), strict=True)),
        "kappa_by_stage": dict(zip(HUMAN_STAGES, np.round(alone, 3).tolist(), strict=True)),
    }


def cross_fit(path: Path, options: argparse.Namespace) -> tuple[dict[str, object], Recipe]:
    """Judge on each half what was fitted to and chosen on the other half."""
    nights = real_nights(path)
    tried: dict[str, list[list[float]]] = {"own": [], "other": []}
    pairs: dict[str, list[tuple[Night, np.ndarray]]] = {"both": [], "Fpz-Cz": [], "Pz-Oz": []}
    chosen = []
    for own, other in (HALVES, HALVES[::-1]):
        constants = fit(read(path).of(own), nights=options.fit_nights, rounds=options.rounds)
        training = pool(constants, options.nights)
        first = [learn(training, r, options.steps, seed=0) for r in RECIPES]
        for name, half in (("own", own), ("other", other)):
            of_half = [n for n in nights if n.subject in half]
            tried[name].append([mean_kappa(network_of([m]), of_half) for m in first])
        best = int(np.argmax(tried["own"][-1]))
        chosen.append(best)
        more = [learn(training, RECIPES[best], options.steps, seed=s) for s in range(1, MEMBERS)]
        network = network_of([first[best], *more])
        for night in nights:
            if night.subject in other:
                for name, leads in (("both", [0, 1]), ("Fpz-Cz", [0]), ("Pz-Oz", [1])):
                    pairs[name].append((night, stage(network, night.levels[:, leads])))
        print(own, RECIPES[best], tried, flush=True)
    for of_leads in pairs.values():
        of_leads.sort(key=lambda pair: pair[0].subject)
    report = {
        "leads": {name: judged(of_leads) for name, of_leads in pairs.items()},
        "subjects": [f"SC4{night.subject:02d}" for night, _ in pairs["both"]],
        "recipes": [vars(r) for r in RECIPES],
        "chosen": chosen,
        "own": np.round(tried["own"], 3).tolist(),
        "other": np.round(tried["other"], 3).tolist(),
    }
    return report, RECIPES[int(np.argmax(np.mean(tried["other"], axis=0)))]


def on_simulated(network: spectral.Network, options: argparse.Namespace) -> dict[str, object]:
    """Compare with the simulated scorer, and with YASA, on nights of a seed that nothing saw."""
    yasa = yasa_stages(options)
    rows = []
    for subject in range(options.test_nights):
        night = simulate_night(
            subject, 1, hours=8.0, seed=TEST_SEED, channels=(*CASSETTE_CHANNELS, *EXTRAS)
        )
        assert night.recording.hypnogram is not None
        scored = night.recording.hypnogram.stages
        ours = stage(network, levels_of(night, ["EEG C4-M1"]))
        cassette = stage(network, levels_of(night, ["EEG Fpz-Cz", "EEG Pz-Oz"]))
        row = {
            "scorer": kappa(scored, ours),
            "scorer, Fpz-Cz and Pz-Oz": kappa(scored, cassette),
            "truth": kappa(night.truth, ours),
            "ceiling": kappa(scored, night.truth),
        }
        if yasa is not None:
            of_yasa = yasa[subject][: len(scored)]
            row |= {"YASA": kappa(of_yasa, ours), "scorer and YASA": kappa(scored, of_yasa)}
        rows.append(row)
    return {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}


def yasa_stages(options: argparse.Namespace) -> np.ndarray | None:
    """Let YASA, from C4-M1, EOG and EMG, stage the simulated nights: (nights, epochs), or None."""
    if not options.yasa.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "yasa.json"
        bench = Path(__file__).with_name("judge_yasa.py")
        command = [options.yasa, bench, "--eeg", "EEG C4-M1", "--subjects", options.test_nights]
        command += ["--seed", TEST_SEED, "--out", "-", "--stages", path]
        environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [str(c) for c in command], check=True, stdout=subprocess.DEVNULL, env=environment
        )
        return np.array(json.loads(path.read_text()))


def seconds_to_score(*only: str, hours: float = 8.0, turns: int = 5) -> dict[str, float]:
    """Median seconds of `score default` on a night, as whole processes that start anew."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        simulate.simulate("sleep-edf", folder / "raw", subjects=1, hours=hours, seed=TEST_SEED)
        (psg,) = (folder / "raw").glob("*-PSG.edf")
        score = [sys.executable, "-m", "sleeptools.cli", "score", "default", str(psg), *only]
        environment = provenance.environment(folder / "python") | {"OMP_NUM_THREADS": "1"}
        taken = [
            whole_process([*score, "--out", str(folder / f"scores{turn}")], environment)
            for turn in range(turns + 1)
        ][1:]
    wall, cpu, _ = np.median(taken, axis=0).tolist()
    return {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3)}


# --- results --------------------------------------------------------------------------------------


def card(report: dict, options: argparse.Namespace, recipe: Recipe) -> dict[str, object]:
    """Say what the model is; the messages of `score` print the summary."""
    both = report["real"]["leads"]["both"]
    mean, low, high = both["mean"]
    of_real = f"kappa {mean:.2f} [{low:.2f}, {high:.2f}]"
    return {
        "summary": f"learnt from simulated nights only; on features of ten real nights "
        f"{of_real}; not validated on whole waveforms; not for diagnosis",
        "expected_agreement": f"{of_real} on features of ten real nights of five people; not known "
        "for whole waveforms, other leads, older people or patients",
        "learnt_from": {
            "simulator": SIMULATOR,
            "nights": options.nights,
            "randomised": options.nights // 2,
            "seed": TRAIN_SEED,
            "leads": list(LEADS),
            "recipe": vars(recipe),
        },
        "real_nights": {
            "what": "band levels of ten nights of SC400 to SC404, Sleep-EDF Expanded 1.0.0 (Kemp "
            "et al. 2000; ODC-By 1.0); each judged by a model whose constants and recipe were "
            "fitted to and chosen on the other people's nights",
            "kappa": mean,
            "interval_over_nights": [low, high],
            "interval_over_subjects": both["mean_over_subjects"][1:],
            "worst_night": both["worst"],
            "f1": both["f1"],
            "kappa_by_stage": both["kappa_by_stage"],
            "one_lead": {n: report["real"]["leads"][n]["mean"][0] for n in ("Fpz-Cz", "Pz-Oz")},
        },
        "simulated_nights": report["simulated"],
        "validated_on_whole_waveforms": False,
        "for_diagnosis": False,
    }


def ship(members: Sequence[Member], facts: dict[str, object]) -> None:
    """Write the model folder of the package."""
    preset = Preset(
        name="spectral",
        data_set="any",
        montage=(MontageChannel("EEG"),),
        sample_rate=100.0,
        quality="exclude",
    )
    head = {
        "model": "spectral",
        "config": config_of(members),
        "montage": list(preset.labels),
        "sample_rate": preset.sample_rate,
        "epoch_seconds": preset.epoch_seconds,
        "stages": list(HUMAN_STAGES),
        "preprocessing": {"preset": preset.model_dump(mode="json")},
        leads.LEADS: {"wanted": list(WANTED), "most": 2},
        LEAST_SECONDS: 7200.0,
        "simulated": True,  # all that it learnt from
        "calibration": uncalibrated("no whole night that a person scored was there to fit one on"),
        "card": facts,
    }
    model_folder.write_model_folder(SHIPPED[DEFAULT], head, arrays_of(members))


def markdown(report: dict) -> str:
    real, simulated = report["real"], report["simulated"]
    leads = {n: real["leads"][n] for n in ("both", "Fpz-Cz", "Pz-Oz")}
    lines = [
        "# The default model",
        "",
        f"`spectral`, learnt from {report['nights']} nights of simulator {report['simulator']}, "
        f"half of them randomised, in {report['minutes']:.0f} min of one core. "
        f"{report['machine']}, {report['commit']}.",
        "",
        "Kappa on the band levels of ten real nights (Sleep-EDF Expanded, Kemp et al. 2000, ODC-By "
        "1.0), each staged by a model whose constants were fitted to the other people's nights and "
        "whose recipe was chosen on them; in brackets 95 % over nights, and over the five people:",
        "",
        "| leads | mean | over nights | over people | worst | "
        + " | ".join(f"F1 {n}" for n in HUMAN_STAGES)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(HUMAN_STAGES),
    ]
    for name, row in leads.items():
        f1 = " | ".join(f"{v:.2f}" for v in row["f1"].values())
        both = (row["mean"], row["mean_over_subjects"])
        spans = [f"[{low:.3f}, {high:.3f}]" for _, low, high in both]
        lines.append(
            f"| {name} | {row['mean'][0]:.3f} | {' | '.join(spans)} | {row['worst']:.3f} | {f1} |"
        )
    lines += ["", "| night of | " + " | ".join(leads) + " |", "|---|" + "---|" * len(leads)]
    for i, subject in enumerate(real["subjects"]):
        cells = " | ".join(f"{row['kappa'][i]:.3f}" for row in leads.values())
        lines.append(f"| {subject} | {cells} |")
    lines += [
        "",
        "Recipes, one network each: mean kappa on the half that the constants were fitted to, by "
        "which the recipe is chosen, and on the other, by which the shipped one's is:",
        "",
        "| shaken, dB | true stages | own, first | own, second | other, first | other, second |",
        "|---|---|---|---|---|---|",
    ]
    for i, recipe in enumerate(real["recipes"]):
        cells = [
            f"{half[i]:.3f}" + (" *" if key == "own" and real["chosen"][h] == i else "")
            for key in ("own", "other")
            for h, half in enumerate(real[key])
        ]
        lines.append(f"| {recipe['shake']:g} | {recipe['truth']:g} | {' | '.join(cells)} |")
    lines += [
        "",
        f"On {report['test_nights']} simulated nights of 8 h, seed {TEST_SEED}, from C4-M1, mean "
        "kappa of the shipped model with:",
        "",
        "| " + " | ".join(simulated) + " |",
        "|" + "---|" * len(simulated),
        "| " + " | ".join(f"{v:.3f}" for v in simulated.values()) + " |",
        "",
        f"`score default` on a night of 8 h and two leads: {report['score']['cpu_seconds']:.2f} s "
        f"of CPU for hypnogram and table, {report['score_with_page']['cpu_seconds']:.2f} s with "
        f"the page and its spectrograms (load of the machine {report['load']:g}); the folder has "
        f"{report['bytes'] / 1000:.0f} kB.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("--nights", type=int, default=60, help="simulated nights to learn from")
    parser.add_argument("--steps", type=int, default=120, help="of a member's training")
    parser.add_argument("--test-nights", type=int, default=10, help="simulated, to compare YASA on")
    parser.add_argument("--fit-nights", type=int, default=8, help="simulated nights to fit by")
    parser.add_argument("--rounds", type=int, default=5, help="of simulating and correcting")
    parser.add_argument("--yasa", type=Path, default=YASA, help="Python that has YASA")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    real, recipe = cross_fit(options.features, options)
    training = pool(calibrated(), options.nights)
    members = [learn(training, recipe, options.steps, seed=s) for s in range(MEMBERS)]
    report = {
        "nights": options.nights,
        "steps": options.steps,
        "test_nights": options.test_nights,
        "simulator": SIMULATOR,
        "commit": provenance.commit(),
        "machine": provenance.machine("numpy", "torch"),
        "minutes": round((time.process_time() - began) / 60, 1),
        "recipe": vars(recipe),
        "real": real,
        "simulated": on_simulated(network_of(members), options),
    }
    both = real["leads"]["both"]  # type: ignore[index]
    report["ships"] = both["mean"][0] >= LEAST_KAPPA and both["worst"] >= LEAST_NIGHT
    if report["ships"]:
        ship(members, card(report, options, recipe))
        report["bytes"] = sum(p.stat().st_size for p in SHIPPED[DEFAULT].iterdir())
        report["score"] = seconds_to_score("--only", "edf,csv")
        report["score_with_page"] = seconds_to_score()
        report["load"] = round(os.getloadavg()[0], 2)
    store.write_json(RESULTS / "spectral.json", report)
    if not report["ships"]:
        sys.exit("does not ship: kappa on the real nights is too low; see spectral.json")
    store.write_text(RESULTS / "spectral.md", markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
