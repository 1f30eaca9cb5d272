"""The same night by YASA in a process of its own, for night.py; runs where yasa is installed.

usage: night_yasa.py PSG OUT
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import mne
import yasa

CHANNELS = ["EEG Fpz-Cz", "EOG horizontal", "EMG submental"]


def main() -> None:
    psg, out = sys.argv[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.read_raw_edf(psg, include=CHANNELS, preload=True, verbose="error")
        eeg, eog, emg = CHANNELS
        staging = yasa.SleepStaging(raw, eeg_name=eeg, eog_name=eog, emg_name=emg)
        found = staging.predict()
    texts = found.hypno if hasattr(found, "hypno") else found
    Path(out).write_text("\n".join(map(str, texts)) + "\n")


if __name__ == "__main__":
    main()
