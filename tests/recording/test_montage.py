"""Names as they occur in practice, what stands in for what, and units."""

from pathlib import Path

import numpy as np
import pytest

from sleeptools.errors import DataError
from sleeptools.formats import edf
from sleeptools.recording import montage
from sleeptools.recording.montage import MontageChannel
from sleeptools.recording.recording import Recording, Signal


def signal(label: str, values: object, unit: str = "uV", rate: float = 1.0) -> Signal:
    samples = np.asarray(values, np.float32)
    return Signal(label, rate, unit, montage.modality(label), samples.size, lambda: samples)


def of(values: dict[str, object], unit: str = "uV") -> Recording:
    return Recording("night", "who", 1, {n: signal(n, v, unit) for n, v in values.items()})


def named(*labels: str) -> Recording:
    return of({n: [i + 1.0] for i, n in enumerate(labels)})


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("EEG Fpz-Cz", "eeg"),
        ("EEG Pz-Oz", "eeg"),
        ("EOG horizontal", "eog"),
        ("EMG submental", "emg"),
        ("Resp oro-nasal", "resp"),
        ("Temp rectal", "temp"),
        ("Event marker", "event"),
        ("C4-A1", "eeg"),
        ("F3-M2", "eeg"),
        ("LOC-A2", "eog"),
        ("E1-M2", "eog"),
        ("ROC", "eog"),
        ("Chin EMG", "emg"),
        ("ECG", "ecg"),
        ("SpO2", "oximetry"),
        ("O2-A1", "eeg"),
        ("SaO2", "oximetry"),
        ("X4", "other"),
        ("ABDO RES", "resp"),
        ("THOR RES", "resp"),
        ("Status", "event"),
        ("", "other"),
        ("TP7", "eeg"),
        ("REOG", "eog"),
        ("M1", "eeg"),
        ("C3-M2 (Imp)", "other"),
        ("E1 Impédance", "other"),
        ("P1", "eeg"),
        ("EEG(sec)", "eeg"),
        ("EEG MontageChannel-3", "eeg"),
        ("Chest", "resp"),
        ("RIP-Phase", "resp"),
        ("Snoring", "resp"),
        ("Saturation", "oximetry"),
        ("Heart Rate", "oximetry"),
        ("Voltage (core)", "other"),
    ],
)
def test_modality(label: str, wanted: str) -> None:
    assert montage.modality(label) == wanted


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [
        (
            "EEG C4-M1",
            [
                "C4-A1",
                "C4-M1",
                "EEG C4-A1",
                "EEG_C4-M1",
                "c4a1",
                "C4 - A1",
                "C4/A1",
                "EEG C4-M1 [uV]",
                "EEG C4-A1#2",
                "C4:M1",
                "C4\u2013M1",
            ],
        ),
        ("EEG C4", ["C4", "EEG C4", "EEG C4-Ref", "EEG C4-REF", "C4-G2"]),
        ("EEG C4-M1+M2", ["C4-A1A2", "C4-M1M2", "C4-(A1+A2)/2", "EEG C4-(M1+M2)/2"]),
        ("EOG E1-M2", ["LOC-A2", "E1-M2", "EOG LOC-A2", "E1-A2", "EOG E1-M2"]),
        ("EOG E1", ["LOC", "EOG(L)", "EOG Left Horiz", "EOG-L", "LEOG", "E1"]),
        ("EOG E2", ["ROC", "EOG(R)", "EOG Right Horiz", "E2", "REOG"]),
        (
            "EMG chin",
            [
                "EMG submental",
                "Chin",
                "CHIN",
                "Chin EMG",
                "Submental EMG",
                "chin_emg",
                "Chin1-Chin2",
                "EMG1-EMG2",
                "EMG Chin",
            ],
        ),
        ("EEG C3-LE", ["EEG C3-LER", "EEG C3-CLE", "C3-LE"]),
        ("EEG M2-LE", ["EEG A2-CLE"]),
        ("EEG T7-Cz", ["T3 - CZ"]),
        ("EEG", ["EEG", "eeg"]),
        ("EMG", ["EMG"]),
    ],
)
def test_every_name_has_one_name(wanted: str, labels: list[str]) -> None:
    assert {montage.canonical(n) for n in labels} == {wanted}
    assert montage.canonical(wanted) == wanted


def test_unknown_names_stay_as_they_are() -> None:
    for label in ("X1", "SpO2", "C3 Impédance", "EEG foo-bar", "DC01", "1-2", "Heart Rate"):
        assert montage.canonical(label) == label


ISRUC = [
    "LOC-A2",
    "ROC-A1",
    "F3-A2",
    "C3-A2",
    "O1-A2",
    "F4-A1",
    "C4-A1",
    "O2-A1",
    "X1",
    "X2",
    "X3",
    "X4",
    "X5",
    "X6",
    "DC3",
    "X7",
    "X8",
    "SaO2",
    "DC8",
]
VARIANTS = {
    "A": (ISRUC, "X1"),
    "M": (
        [
            n.replace("A1", "M1").replace("A2", "M2").replace("LOC", "E1").replace("ROC", "E2")
            for n in ISRUC
        ],
        "X1",
    ),
    "numbered": (
        [
            "E1-M2",
            "E2-M1",
            "F3-M2",
            "C3-M2",
            "O1-M2",
            "F4-M1",
            "C4-M1",
            "O2-M1",
            *map(str, range(24, 32)),
            "DC01",
            "DC02",
            "SpO2",
        ],
        "24",
    ),
}
WANTED = ["EEG F3-M2", "EEG C3-M2", "EEG O1-M2", "EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EOG E2-M1"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_isruc_in_all_its_spellings(variant: str) -> None:
    labels, chin = VARIANTS[variant]
    recording = named(*labels)
    for name in WANTED:
        ((label, weight),) = montage.match(recording, MontageChannel(name)).terms
        assert montage.canonical(label) == name
        assert weight == 1
    assert str(montage.match(recording, MontageChannel("EMG chin"))) == chin


def test_isruc_subject_40_is_referenced_by_subtraction() -> None:
    labels = ["ROC", "A1", "LOC", "A2", "C4", "O2", "C3", "O1", "F4", "F3", "X1", "X2", "X3"]
    recording = named(*labels)
    (eeg,) = montage.pick(recording, [MontageChannel("EEG F3-M2")])
    assert eeg.label == "EEG F3-M2"
    assert eeg.samples() == labels.index("F3") - labels.index("A2")
    (eog,) = montage.pick(recording, [MontageChannel("LOC-A2")])
    assert eog.samples() == labels.index("LOC") - labels.index("A2")
    assert str(montage.match(recording, MontageChannel("EMG chin"))) == "X1"


def test_an_auxiliary_is_a_chin_only_among_its_own_set() -> None:
    with pytest.raises(DataError, match="no signal 'EMG chin'"):
        montage.match(named("X1", "X2", "X3", "C4-M1"), MontageChannel("EMG chin"))


def test_shhs_names_mean_electrodes() -> None:
    recording = named(
        "SaO2", "H.R.", "EEG(sec)", "ECG", "EMG", "EOG(L)", "EOG(R)", "EEG", "THOR RES", "ABDO RES"
    )
    for name, label in {"C4-A1": "EEG", "C3-A2": "EEG(sec)", "EMG chin": "EMG"}.items():
        assert str(montage.match(recording, MontageChannel(name))) == label


def test_re_referencing() -> None:
    recording = of({"C4": [5, 7], "A1": [1, 2], "A2": [3, 1], "ROC-LOC": [4, 5]})
    wanted = {"C4-M1": [4, 5], "C4-A2": [2, 6], "C4-A1A2": [3, 5.5], "E1-E2": [-4, -5]}
    for name, values in wanted.items():
        (made,) = montage.pick(recording, [MontageChannel(name)])
        assert made.samples().tolist() == values
        assert made.size == 2


def test_mass_is_re_referenced_within_its_linked_ears() -> None:
    recording = named("EEG C3-CLE", "EEG A2-CLE", "EMG Chin1", "EMG Chin2", "EMG Chin3")
    assert str(montage.match(recording, MontageChannel("C3-A2"))) == "EEG C3-CLE - EEG A2-CLE"
    assert str(montage.match(recording, MontageChannel("EMG chin"))) == "EMG Chin1 - EMG Chin2"


def test_signals_of_different_references_are_not_subtracted() -> None:
    with pytest.raises(DataError, match="no signal 'C3-A2'"):
        montage.match(named("EEG C3-CLE", "EEG A2-Ref"), MontageChannel("C3-A2"))


def test_preferred_before_fallback() -> None:
    channel = MontageChannel("frontal", ("F3-M2", "F4-M1", "Fz"))
    assert str(montage.match(named("Fz", "F4-A1", "F3-A2"), channel)) == "F3-A2"
    assert str(montage.match(named("Fz", "F4-A1"), channel)) == "F4-A1"
    assert str(montage.match(named("Fz", "F4", "M1"), channel)) == "F4 - M1"
    with pytest.raises(DataError, match=r"no signal 'frontal' \(nor F3-M2, F4-M1, Fz\)"):
        montage.match(named("C4"), channel)


def test_what_is_ambiguous_is_refused_until_named() -> None:
    recording = named("EEG C4-A1", "C4-M1", "Cz", "Cz#2")
    with pytest.raises(DataError, match="'EEG C4-M1' could be any of EEG C4-A1, C4-M1") as caught:
        montage.match(recording, MontageChannel("EEG C4-M1"))
    assert 'any_of = ["EEG C4-A1"]' in str(caught.value.hint)
    assert str(montage.match(recording, MontageChannel("x", ("C4-M1",)))) == "C4-M1"
    with pytest.raises(DataError, match="could be any of Cz, Cz#2") as caught:
        montage.match(recording, MontageChannel("Cz"))
    assert 'any_of = ["Cz#1"]' in str(caught.value.hint)
    assert str(montage.match(recording, MontageChannel("x", ("Cz#1",)))) == "Cz"
    assert str(montage.match(recording, MontageChannel("x", ("Cz#2",)))) == "Cz#2"
    with pytest.raises(DataError, match="could be any of Cz, Cz#2"):
        montage.match(named("Cz", "Cz#2", "Fpz"), MontageChannel("Fpz-Cz"))


def test_what_is_missing_lists_what_is_near() -> None:
    with pytest.raises(DataError, match="night: no signal 'EEG C4-M1'") as caught:
        montage.match(named("C4-M2", "SpO2"), MontageChannel("EEG C4-M1"))
    assert caught.value.hint == "near: C4-M2; there are: C4-M2, SpO2"


def test_a_signal_of_another_kind_is_not_near() -> None:
    with pytest.raises(DataError, match=r"no signal 'EMG1', nor any other EMG$") as caught:
        montage.match(named("EEG1"), MontageChannel("EMG1"))
    assert caught.value.hint == "there are: EEG1"
    with pytest.raises(DataError, match=r"no signal 'EMG1'$") as caught:
        montage.match(named("EEG1", "EMG2", "emg-1x"), MontageChannel("EMG1"))
    assert str(caught.value.hint).startswith("near: ")
    assert "EEG1" not in str(caught.value.hint).split(";")[0]


def test_rates_are_never_mixed() -> None:
    signals = {"C4": signal("C4", [1, 2]), "M1": signal("M1", [1, 2], rate=2.0)}
    with pytest.raises(DataError, match="C4 1 Hz, M1 2 Hz"):
        montage.pick(Recording("n", "w", 1, signals), [MontageChannel("C4-M1")])


def test_a_real_nox_file(real_data: Path) -> None:
    recording = edf.read(real_data / "noxturnal/subject1.edf")
    for name, found in {"F4-A1": "F4-M1", "EMG chin": "1-2", "EOG E1-M2": "E1-M2"}.items():
        assert str(montage.match(recording, MontageChannel(name))) == found
    (made,) = montage.pick(recording, [MontageChannel("C4-A1A2")])
    c4, m1, m2 = (recording.signals[n].samples() for n in ("C4", "M1", "M2"))
    np.testing.assert_allclose(made.samples(), c4 - (m1 + m2) / 2, rtol=1e-5, atol=1e-2)


# --- units ----------------------------------------------------------------------------------------


def test_a_unit_is_assumed_only_where_asked() -> None:
    recording = of({"C4-M1": [2.0, 3.0], "SpO2": [97, 98]}, unit="")
    with pytest.raises(DataError, match="'C4-M1' has no unit") as caught:
        montage.pick(recording, [MontageChannel("C4-M1")])
    assert "`assume_unit=uV`" in str(caught.value.hint)
    (made,) = montage.pick(recording, [MontageChannel("C4-M1")], "mV")
    assert (made.unit, made.samples().tolist()) == ("uV", [2000, 3000])
    (saturation,) = montage.pick(recording, [MontageChannel("SpO2")], "mV")
    assert saturation.samples().tolist() == [97, 98]
    with pytest.raises(DataError, match="unit 'DegC'; expected a voltage"):
        montage.pick(of({"C4-M1": [1]}, unit="DegC"), [MontageChannel("C4-M1")], "uV")


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (1, ""),
        (1e-3, "1,000x too small"),
        (1e-6, "1,000,000x too small"),
        (1e3, "1,000x too large"),
        (1e6, "1,000,000x too large"),
    ],
)
def test_a_wrong_unit_is_suspected_by_its_factor(factor: float, told: str) -> None:
    samples = np.random.default_rng(0).normal(40, 30, 300_000).astype(np.float32) * factor
    found = montage.suspicion(samples, "eeg")
    assert told in found
    assert bool(told) == bool(found)
    assert montage.suspicion(samples, "resp") == ""


def test_a_flat_signal_is_suspected() -> None:
    assert montage.suspicion(np.full(100, 7, np.float32), "eog").startswith("flat")
