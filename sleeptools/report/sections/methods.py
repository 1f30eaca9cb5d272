"""Section with a paragraph to paste into a paper: data, model, training, protocol, software."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from sleeptools.evaluation.comparison import UNSEEN
from sleeptools.report.blocks import Block, Code, Collapsible, Text
from sleeptools.report.numbers import count_text, value_text
from sleeptools.report.page import Page
from sleeptools.report.sections.provenance import recipe_text
from sleeptools.runs.folds import BEST_ON_TEST, EXTERNAL, HELD_OUT, LEAK_FREE

PROTOCOLS: Final = {
    LEAK_FREE: "the pass was chosen on validation {noun}s taken from the training {noun}s, and "
    "the test fold was read once",
    BEST_ON_TEST: "the pass was chosen on the scored test fold, which is optimistic",
    HELD_OUT: "the final model, its last pass, was tested on {noun}s that no training had seen",
    EXTERNAL: "a model that was trained on other data was tested on every {noun}",
}
METRICS: Final = (
    "Accuracy, macro-F1 (the unweighted mean over the stages that were scored) and Cohen's kappa "
    "were computed from the test epochs of all folds pooled; 95 % intervals are "
    "bias-corrected and accelerated (BCa) ones of a bootstrap over {noun}s."
)
CITED: Final = {
    "mouse-cnn": "mouse-report",
    "mouse-cnn-attention": "mouse-report",
    "mouse-transformer": "mouse-report",
    "slumbernet-authors": "slumbernet",
    "slumbernet-paper": "slumbernet",
}
"""Models and data sets whose entry has another key."""
LIBRARIES: Final = ("torch", "numpy", "scipy", "polars")
ENTRY: Final = re.compile(r"@\w+\{([^,]+),.*?\n\}", re.DOTALL)


def methods_section(page: Page) -> Iterator[Block]:
    """Write how the numbers were made, as prose, with what is to be cited."""
    sentences = (_data(page), _signals(page), _training(page), _protocol(page), _software(page))
    yield Text(" ".join(filter(None, sentences)))
    keys = [page.run.model, page.designs[page.protocol].preset, "sleeptools"]
    entries = citations([CITED.get(key, key) for key in keys])
    if entries:
        yield Collapsible("To be cited (BibTeX)", Code("\n\n".join(entries)))


def citations(keys: Sequence[str]) -> list[str]:
    """Give the BibTeX entries of models and data sets, in this order, each once."""
    text = resources.files("sleeptools.report").joinpath("citations.bib").read_text("utf-8")
    entries = {match[1]: match[0] for match in ENTRY.finditer(text)}
    return [entries[key] for key in dict.fromkeys(keys) if key in entries]


def _data(page: Page) -> str:
    design, facts = page.designs[page.protocol], page.run.data
    noun = page.subject_noun
    nights = page.tested["recording"].n_unique()
    simulated = "simulated " if design.simulated else ""
    text = (
        f"We staged {count_text(nights, f'{simulated}recording')} of "
        f"{count_text(design.subjects, noun)} ({design.epochs:,} epochs of "
        f"{page.run.epoch_seconds:g} s, preset {design.preset or 'unknown'}), scored as "
        f"{', '.join(page.run.stages)}"
    )
    text += f" by the rules {design.rules}." if design.rules else "."
    excluded = facts.get("excluded")
    if isinstance(excluded, Mapping) and any(excluded.values()):
        listed = ", ".join(f"{count:,} {reason}" for reason, count in excluded.items() if count)
        text += f" Epochs were left out as {listed}."
    return text


def _signals(page: Page) -> str:
    facts, preset = page.run.data, page.run.preset
    rate, montage = facts.get("sample_rate"), facts.get("montage")
    if not rate or not isinstance(montage, Sequence):
        return ""
    steps = preset.get("processing") or []
    done = "; ".join(map(_step, steps)) if steps else "no filter and no scaling"
    return f"Signals were {', '.join(map(str, montage))} at {rate:g} Hz, with {done}."


def _step(step: Mapping[str, Any]) -> str:
    values = {k: v for k, v in step.items() if k != "do" and v not in (None, "", [], {})}
    listed = ", ".join(f"{k.replace('_', ' ')} {value_text(v)}" for k, v in values.items())
    name = str(step.get("do", "a step"))
    return f"{name} ({listed})" if listed else name


def _training(page: Page) -> str:
    weights = page.run.facts.get("parameters")
    model = f"The model was {page.run.model}"
    model += f" ({weights:,} weights)." if isinstance(weights, int) else "."
    return f"{model} {recipe_text(page.run.recipe)}" if page.run.recipe else model


def _protocol(page: Page) -> str:
    design, noun = page.designs[page.protocol], page.subject_noun
    chosen = PROTOCOLS[page.protocol].format(noun=noun)
    if len(page.run.unchosen(page.protocol)) == design.folds:
        chosen = "the last pass was kept, and the test fold was read once"
    if page.protocol in UNSEEN:
        tested = PROTOCOLS[page.protocol].format(noun=noun)
        return f"In the evaluation {tested}. {METRICS.format(noun=noun)}"
    divided = f"{noun}s" if design.split == "subjects" else "epochs (leaky)"
    seeds = page.evaluation.pooled[page.protocol].seeds
    unseen = ""
    if page.run.unseen:
        unseen = f" Apart from that, {PROTOCOLS[HELD_OUT].format(noun=noun)}"
        unseen += f" ({count_text(len(page.run.unseen), noun)})."
    text = (
        f"In {count_text(design.folds, 'fold')} over {divided} and {count_text(len(seeds), 'seed')}"
    )
    return f"{text}, {chosen}. {METRICS.format(noun=noun)}{unseen}"


def _software(page: Page) -> str:
    environment = page.run.facts.get("environment")
    if not isinstance(environment, Mapping):
        return ""
    versions = [f"{name} {environment[name]}" for name in LIBRARIES if name in environment]
    ours = f"sleeptools {environment.get('sleeptools', '')}".strip()
    return f"Software: {ours} with {', '.join(versions)}." if versions else f"Software: {ours}."
