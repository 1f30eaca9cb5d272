"""The process in which YASA runs: signals on stdin, probabilities on stdout, as NumPy arrays."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from typing import Final

import numpy as np

COLUMNS: Final = ("WAKE", "N1", "N2", "N3", "REM")
ROLES: Final = {"EOG": "eog_name", "EMG": "emg_name"}


def main() -> None:
    """Read a line of JSON (rate, names) and volts (signals, samples); write (epochs, 5) float32."""
    result = os.dup(1)
    os.dup2(2, 1)  # what YASA and MNE print is no result
    head = json.loads(sys.stdin.buffer.readline())
    volts = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    import mne
    import yasa

    mne.set_log_level("ERROR")
    warnings.simplefilter("ignore")
    kinds = [name.split()[0].lower() for name in head["names"]]
    raw = mne.io.RawArray(volts, mne.create_info(head["names"], head["rate"], kinds))
    roles = {ROLES[name]: name for name in head["names"][1:]}
    hypnogram = yasa.SleepStaging(raw, eeg_name=head["names"][0], **roles).predict()
    content = io.BytesIO()
    np.save(content, hypnogram.proba[list(COLUMNS)].to_numpy().astype(np.float32))
    left = content.getbuffer()
    while left:
        left = left[os.write(result, left) :]


if __name__ == "__main__":
    main()
