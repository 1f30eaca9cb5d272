"""Modalities are told from labels as they occur in practice."""

import pytest

from sleeptools import montage


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("EEG Fpz-Cz", "eeg"), ("EEG Pz-Oz", "eeg"), ("EOG horizontal", "eog"),
        ("EMG submental", "emg"), ("Resp oro-nasal", "resp"), ("Temp rectal", "temp"),
        ("Event marker", "event"), ("C4-A1", "eeg"), ("F3-M2", "eeg"), ("LOC-A2", "eog"),
        ("E1-M2", "eog"), ("ROC", "eog"), ("Chin EMG", "emg"), ("ECG", "ecg"), ("SpO2", "oximetry"),
        ("O2-A1", "eeg"), ("SaO2", "oximetry"), ("X4", "other"), ("ABDO RES", "resp"),
        ("THOR RES", "resp"), ("Status", "event"), ("", "other"),
    ],
)  # fmt: skip
def test_modality(label: str, wanted: str) -> None:
    assert montage.modality(label) == wanted
