"""The steps of a preset: their order, what they are done to, and what a wrong file is told."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleeptools.errors import DataError
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.steps import STEP_KINDS, run_steps
from sleeptools.recording.signals import filters, resampling, scaling

BASE: dict[str, Any] = {
    "name": "own",
    "data_set": "sleep-edf",
    "sample_rate": 100,
    "montage": ["EEG Fpz-Cz", {"name": "EMG chin", "any_of": ["EMG submental", "X1"]}],
    "processing": [
        {"do": "band-pass", "low_hz": 0.3, "high_hz": 35, "of": ["eeg"]},
        {"do": "robust-scale"},
        {"do": "clip", "limit": 2},
        {"do": "baseline", "degree": 2},
    ],
}


def preset(**changes: object) -> presets.Preset:
    return presets.resolve(BASE | changes, source="own.toml")


def cut(stretches: Sequence[np.ndarray], rate: float) -> np.ndarray:
    onsets, size = np.array([0.0, 30.0, 60.0]), round(30 * rate)
    return np.concatenate([epoching.cut_signal(s, rate, onsets, size) for s in stretches])


def test_steps_run_in_the_order_of_the_file() -> None:
    noise = np.random.default_rng(0).normal(5, 30, 20_000).astype(np.float32)
    steps = preset().steps("EEG Fpz-Cz", "eeg")
    found = run_steps(steps, [noise], 200.0, 100.0, cut)
    channel = resampling.resample(noise, 200, 100)
    band = filters.butterworth("bandpass", (0.3, 35), 4, 100)
    channel = scaling.clip(scaling.robust(filters.zero_phase(channel, band)), 2)
    assert np.array_equal(found, scaling.without_baseline(cut([channel], 100), 2))


def test_a_step_is_done_to_what_it_names() -> None:
    assert [s.do for s in preset().steps("EMG chin", "emg")] == ["robust-scale", "clip", "baseline"]
    named = preset(processing=[{"do": "z-score", "of": ["EMG chin"]}])
    assert named.steps("EEG Fpz-Cz", "eeg") == ()
    assert len(named.steps("EMG chin", "emg")) == 1


def test_without_steps_a_channel_is_resampled_and_cut() -> None:
    noise = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    found = run_steps((), [noise], 200.0, 100.0, cut)
    assert np.array_equal(found, cut([resampling.resample(noise, 200, 100)], 100))


def test_the_authors_way_of_slumbernet_can_be_written() -> None:
    """Each epoch by itself: a causal low-pass, then resampling, then the polynomial."""
    from scipy.signal import butter, resample_poly, sosfilt

    steps = preset(
        sample_rate=64,
        processing=[
            {"do": "low-pass", "hz": 16, "causal": True, "over": "epoch"},
            {"do": "resample", "over": "epoch"},
            {"do": "baseline", "degree": 12},
        ],
    ).processing
    noise = np.random.default_rng(0).normal(size=256 * 90).astype(np.float32)
    found = run_steps(steps, [noise], 256.0, 64.0, cut)
    epoch = sosfilt(butter(4, 16, fs=256, output="sos"), noise[256 * 30 : 256 * 60])
    epoch = resample_poly(epoch, 1, 4, padtype="edge")
    wanted = scaling.without_baseline(epoch[None].astype(np.float32), 12)[0]
    np.testing.assert_allclose(found[1], wanted, atol=1e-5)


def test_a_scale_over_the_recording_is_not_one_over_epochs() -> None:
    loud = np.random.default_rng(0).normal(size=9000).astype(np.float32)
    loud[3000:6000] *= 10
    for over, ratio in (("recording", 10), ("epoch", 1)):
        steps = preset(processing=[{"do": "z-score", "over": over}]).processing
        spread = run_steps(steps, [loud], 100.0, 100.0, cut).std(-1)
        assert spread[1] / spread[0] == pytest.approx(ratio, rel=0.1)


def test_stretches_are_filtered_by_themselves_and_scaled_as_one() -> None:
    """What lies beyond a gap changes no filter and no resampling, but it does the scale."""
    rng = np.random.default_rng(0)
    quiet, loud = (rng.normal(0, s, 20_000).astype(np.float32) for s in (1, 50))
    filtering = preset(processing=[{"do": "band-pass", "low_hz": 0.3, "high_hz": 35}]).processing
    together = run_steps(filtering, [quiet, loud], 200.0, 100.0, cut)
    alone = [run_steps(filtering, [s], 200.0, 100.0, cut) for s in (quiet, loud)]
    assert np.array_equal(together, np.concatenate(alone))
    for do, scale in (("z-score", scaling.z_score), ("robust-scale", scaling.robust)):
        steps = preset(processing=[{"do": do}]).processing
        scaled = run_steps(steps, [quiet, loud], 100.0, 100.0, cut)
        whole = scale(np.concatenate([quiet, loud]))
        assert np.array_equal(scaled, cut(np.split(whole, 2), 100))


def test_resolved_settings_make_the_same_preset() -> None:
    first = preset()
    again = presets.resolve(first.model_dump(mode="json"), source="epochs.toml")
    assert again == first
    assert first.model_dump(mode="json")["montage"] == BASE["montage"]
    assert first.labels == ("EEG Fpz-Cz", "EMG chin")


def spoil(path: str, value: object) -> dict[str, Any]:
    values = copy.deepcopy(BASE)
    *way, last = path.split(".")
    inner: Any = values
    for name in way:
        inner = inner[int(name) if name.isdigit() else name]
    inner[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("foo", 1, "foo: unknown setting; there are: name, data_set, montage,"),
        ("trim", {"rul": 1}, "trim.rul: unknown setting; there are: rule, margin_minutes"),
        ("montage.1.any_off", 1, "montage.1.any_off: unknown setting; there are: name, any_of"),
        ("processing.0.ordr", 1, "there are: of, over, causal, do, low_hz, high_hz, order"),
        ("processing.0.do", "bandpass", "'band-pass', 'high-pass', 'low-pass', 'notch'"),
        ("processing.0.high_hz", 50, "filter at 0.3 to 50 Hz: expected rising frequencies below"),
        ("processing.0.of", ["egg"], "processing of 'egg'; there are: EEG Fpz-Cz, EMG chin, eeg"),
        ("processing.3.degree", 13, "degree: Input should be less than or equal to 12"),
        ("processing.3.over", "recording", "Input should be 'epoch'"),
        ("processing.1.over", "epoch", "'clip' over the recording stands after 'robust-scale'"),
        ("montage", ["a", "a"], "montage: a is listed twice"),
        ("montage", "a", "montage: Input should be"),
        ("assume_unit", "kV", "assume_unit: unknown unit"),
        ("processing", [{"do": "resample"}] * 2, "'resample' is done once"),
    ],
)
def test_a_wrong_setting_is_named_with_what_there_is(path: str, value: object, told: str) -> None:
    with pytest.raises(DataError, match=r"own\.toml: ") as caught:
        presets.resolve(spoil(path, value), source="own.toml")
    assert told in str(caught.value)


def test_every_preset_of_the_package_resolves() -> None:
    for name in presets.names():
        assert presets.load(name).name == name


def test_the_steps_of_the_document_are_the_steps_there_are(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/presets.md").read_text()
    example = text.split("```toml\n")[1].split("```")[0]
    (tmp_path / "own.toml").write_text(example)
    found = presets.load(str(tmp_path / "own.toml"))
    assert len(found.processing) > 3
    for kind in STEP_KINDS:
        for tag in kind.tags():
            (row,) = (r for r in text.splitlines() if r.startswith(f"| `{tag}`"))
            own = [n for n in kind.model_fields if n not in ("do", "of", "over")]
            assert all(f"`{n}`" in row for n in own), row
