"""Channel names: turn the labels of files into canonical names, by the table names.toml.

A canonical name is a modality and electrodes, such as "EEG C4-M1" and "EOG E1", or one of the
table's channels, such as "EMG chin". A name that the table does not know stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from sleeptools import store

CHANNEL_TABLE: Final = store.read_toml(Path(__file__).with_name("names.toml"))
"""The content of names.toml; `CHANNEL_TABLE["version"]` rises when a name changes its meaning."""

PREFIX: Final = re.compile(
    rf"(?:{'|'.join(CHANNEL_TABLE['prefixes'])})[\s_:.-]+(?=\S)", re.IGNORECASE
)
TAIL: Final = re.compile(r"\s*(?:\[[munµμ]?V\]|\([munµμ]?V\)|,\s*[munµμ]?V)\s*$|#\d+$")
HYPHENS: Final = re.compile(r"\s*[-\u2010-\u2014\u2212]\s*")
OTHER_SIGNS: Final = re.compile(r"\s*[/:_]\s*")

MODALITIES: Final = ("eeg", "eog", "emg", "ecg", "resp", "temp", "oximetry", "event", "other")
PATTERNS: Final = (
    ("other", r"\(imp\b|\bimp$|\bimp[eé]d"),
    ("eog", r"\b(eog|loc|roc|e1|e2)\b"),
    ("emg", r"\b(emg|chin|submental|tib|leg)"),
    ("ecg", r"\b(ecg|ekg|ecg[12]?)\b"),
    ("resp", r"\b(resp|flow|thor|abdo|chest|rip|nasal|snor|airflow|pressure)"),
    ("temp", r"\btemp"),
    ("oximetry", r"\b(spo2|sao2|saturation|pleth|pulse|heart rate|h\.?r\.?)"),
    ("event", r"\b(event|marker|status|annotation)"),
    ("eeg", r"\beeg"),
)


def key(text: str) -> str:
    """Reduce a name to lower-case letters, digits and "+", for comparison."""
    return "".join(c for c in text.casefold() if c.isalnum() or c == "+")


def _keyed(table: Mapping[str, list[str]]) -> dict[str, str]:
    return {key(n): name for name, names in table.items() for n in (name, *names)}


CHANNELS: Final = _keyed(CHANNEL_TABLE["channels"])
BY_KIND: Final = {kind: _keyed(table) for kind, table in CHANNEL_TABLE["electrodes"].items()}
ELECTRODES: Final = {k: v for table in BY_KIND.values() for k, v in table.items()}
KIND_OF: Final[dict[str, str]] = {
    v: kind for kind, table in BY_KIND.items() for v in table.values()
}
REFERENCES: Final = ELECTRODES | _keyed(CHANNEL_TABLE["references"])


@lru_cache(4096)
def electrodes(label: str) -> tuple[str, str] | None:
    """Split a label into its electrode and its reference, both with canonical names.

    Returns
    -------
    pair
        ("C4", "M1") for "EEG C4-A1". The reference is "" if the label has none: the amplifier's
        common reference. None if the label does not consist of known electrodes.
    """
    text = TAIL.sub("", label.strip())
    for body in (text, PREFIX.sub("", text, count=1)):
        if pair := _electrode_alone(body) or _pair_with_sign(body) or _pair_without_sign(key(body)):
            return pair
    return None


def _electrode_alone(text: str) -> tuple[str, str] | None:
    return (ELECTRODES[key(text)], "") if key(text) in ELECTRODES else None


def _pair_with_sign(text: str) -> tuple[str, str] | None:
    for sign in (HYPHENS, OTHER_SIGNS):
        first, *reference = sign.split(text, maxsplit=1)
        if reference and key(first) in ELECTRODES and key(reference[0]) in REFERENCES:
            return ELECTRODES[key(first)], REFERENCES[key(reference[0])]
    return None


def _pair_without_sign(text: str) -> tuple[str, str] | None:
    """Split a name without a sign, such as "c4a1", if that is possible in one way only."""
    pairs = [
        (ELECTRODES[text[:i]], ELECTRODES[text[i:]])
        for i in range(2, len(text) - 1)
        if text[:i] in ELECTRODES and text[i:] in ELECTRODES
    ]
    return pairs[0] if len(pairs) == 1 else None


@lru_cache(4096)
def canonical(label: str) -> str:
    """Canonical name of a label: "EEG C4-M1" for "C4-A1", "EMG chin" for "EMG submental".

    An unknown label is returned without its unit and the spaces around it.
    """
    text = TAIL.sub("", label.strip())
    if key(text) in CHANNELS:
        return CHANNELS[key(text)]
    if pair := electrodes(text):
        plus, reference = pair
        return f"{KIND_OF[plus].upper()} {plus}" + (f"-{reference}" if reference else "")
    return text


def canonical_names(labels: Iterable[str]) -> dict[str, str]:
    """Canonical name by label of a recording.

    Labels that mean something in one data set only, such as "X1", are translated if the recording
    has the labels by which the table recognises that data set.
    """
    names = {label: canonical(label) for label in labels}
    keys = {key(name) for name in names.values()}
    for known_names in _matching_sets(keys):
        names |= {label: known_names[key(label)] for label in names if key(label) in known_names}
    return names


def _matching_sets(keys: set[str]) -> Iterator[dict[str, str]]:
    for entry in CHANNEL_TABLE["sets"].values():
        if any({key(n) for n in names} <= keys for names in entry["signatures"]):
            yield {key(label): name for label, name in entry["names"].items()}


def modality(label: str) -> str:
    """Find a channel's modality, one of `MODALITIES`, from its label; "other" if unknown."""
    if pair := electrodes(label):
        return KIND_OF[pair[0]]
    text = canonical(label).lower().replace("-", " ").replace("_", " ")
    return next((name for name, pattern in PATTERNS if re.search(pattern, text)), "other")
