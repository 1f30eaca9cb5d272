"""The command line as a person meets it: help, errors with their exit codes, start-up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sleeptools import cli
from sleeptools.commands.simulate import simulate

HEAVY = ("torch", "polars", "scipy", "numpy", "matplotlib", "pydantic", "rich", "pyedflib")
COMMANDS = (
    "simulate",
    "fetch",
    "inspect",
    "convert",
    "preprocess",
    "train",
    "evaluate",
    "report",
    "score",
    "agree",
    "export",
    "hypnogram",
    "list",
    "status",
    "verify",
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=3, hours=1)


@pytest.fixture(scope="module")
def epochs(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sleeptools.commands import preprocess
    from sleeptools.preprocessing import presets

    folder = tmp_path_factory.mktemp("epochs")
    return preprocess.preprocess(presets.load("sleep-edf"), raw, folder)


def modules_after(arguments: list[str], cwd: Path) -> set[str]:
    code = (
        "import sys; from sleeptools.cli import run; code = run(sys.argv[1:]);"
        "print('\\n' + ' '.join(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rstrip().rsplit("\n", 1)[-1].split())


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    assert not modules_after(["--help"], tmp_path) & set(HEAVY)


def test_every_command_is_listed_with_an_example(command) -> None:
    whole = command("--help")
    assert whole.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in whole.out
        found = command(name, "--help")
        assert found.code == 0
        assert f"Example: sleeptools {name} " in " ".join(found.out.split())


def test_no_torch_outside_training(raw: Path, tmp_path: Path) -> None:
    for arguments in (
        ["inspect", str(raw / "SC4001E0-PSG.edf")],
        ["convert", "sleep-edf", str(raw)],
        ["preprocess", "sleep-edf"],
        ["list", "models"],
        ["verify", "epochs"],
        ["--version"],
    ):
        assert "torch" not in modules_after(arguments, tmp_path), arguments


def test_list_tells_what_a_model_is(command) -> None:
    found = {f["name"]: f for f in json.loads(command("list", "models", "--json").out)}
    one = found["attnsleep"]
    assert (one["parameters"], one["sample_rate"], one["stages"]) == (522_805, 100.0, 5)
    assert "10.1109/TNSRE.2021.3076234" in one["paper"]
    assert one["about"].startswith("AttnSleep: ")
    shown = " ".join(command("list", "models").out.split())
    for text in ("522,805", "63.7", "native"):
        assert text in shown


def test_version_names_the_native_variant_or_why_there_is_none(command) -> None:
    assert "native: " in command("--version").out
    off = command("--version", SLEEPTOOLS_NATIVE="0")
    assert "native: off" in off.out


WRONG: list[tuple[list[str], int, str, str]] = [
    (["fetch", "sleep-edff", "x"], 2, "unknown data set", "did you mean 'sleep-edf'?"),
    (["fetch", "sleep-edf", "x", "--subset", "79"], 2, "there are: 20, 78, telemetry", ""),
    (["fetch", "sleep-edf", "x", "--base-url", "file:///x"], 2, "no address of a server", ""),
    (["fetch", "sleep-edf", "x", "--jobs", "0"], 2, "--jobs", "--help"),
    (["preprocess", "sleep-edf", "nowhere"], 66, "no such folder", "holds:"),
    (["preprocess", "sleep-edf"], 66, "recordings: no such folder", "holds:"),
    (["convert", "sleep-edf", "."], 65, "no Sleep-EDF recordings", "SC4ssNE0-PSG.edf"),
    (["preprocess", "sleepedf", "."], 2, "unknown preset", "did you mean 'sleep-edf'?"),
    (["train", "--model", "ulw"], 2, "unknown model 'ulw'", "did you mean 'ulw-sleepnet'?"),
    (["review", "raw"], 66, "raw: is a folder, and one file is expected", "a file of it"),
    (["preprocess", "other", "."], 2, "unknown preset 'other'; there are: ", "TOML"),
    (["convert", "sleep-edff", "."], 2, "unknown data set", "did you mean 'sleep-edf'?"),
    (["preprocess", "sleep-edf", ".", "--margin", "inf"], 2, "margin_minutes", ""),
    (["preprocess", "sleep-edf", ".", "--trim", "x"], 2, "drop-then-trim", ""),
    (["train", "--model", "mmasleepnett"], 2, "there are: attnsleep", "did you mean"),
    (["train", "nowhere"], 66, "nowhere: no such folder", "holds:"),
    (["train", "."], 65, "not a sleeptools-epochs folder", "run it again"),
    (["train", "raw"], 65, "expected sleeptools-epochs, found sleeptools-simulated", "preprocess"),
    (["train", "--seed", "x"], 2, "--seed is 'x'", ""),
    (["train", "epochs", "--threads", "-3"], 2, "threads", ""),
    (["train", "epochs", "--set", "model=3"], 2, "model", ""),
    (["train", "epochs", "--set", "recipe.betas=[2,2]"], 2, "betas", ""),
    (["train", "epochs", "--set", "recipe.batchh=3"], 2, "batchh", ""),
    (["evaluate", "nowhere"], 66, "nowhere", "holds:"),
    (["report", "."], 65, "not a sleeptools-run folder", "train"),
    (["inspect", "nothing.edf"], 66, "nothing.edf", "holds:"),
    (["inspect", "empty"], 66, "holds no file to inspect", ".edf"),
    (["inspect", "file/inside"], 66, "file/inside", "holds:"),
    (["simulate", "sleep-edf", "x", "--subjects", "0"], 2, "--subjects 0", ""),
    (["simulate", "sleep-edf", "x", "--hours", "99"], 2, "--hours 99", ""),
    (["simulate", "sleep-edf", "file", "--hours", "1"], 73, "file", ""),
    (["simulate", "sleep-edf", "/proc/nowhere", "--hours", "1"], 73, "/proc/nowhere", ""),
    (["verify", "empty"], 66, "manifest.json", ""),
    (["verify", "file"], 65, "is a file", "manifest.json"),
    (["verify", "listed"], 65, "is no manifest", ""),
    (["list", "things"], 2, "things", "--help"),
    (["list", "presets", "empty"], 2, "presets are not in a folder", "sleeptools list presets"),
    (["bogus"], 2, "bogus", "the commands are: simulate, fetch"),
    (["train", "--bogus"], 2, "--bogus", "sleeptools train --help"),
]


@pytest.mark.parametrize(("arguments", "code", "words", "hint"), WRONG, ids=lambda v: str(v)[:60])
def test_wrong_input(
    command, raw: Path, epochs: Path, tmp_path: Path, arguments, code, words, hint
) -> None:
    (tmp_path / "raw").symlink_to(raw)
    (tmp_path / "epochs").symlink_to(epochs)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "listed").mkdir()
    (tmp_path / "listed/manifest.json").write_text("[]")
    cwd = tmp_path / "empty" if arguments in (["convert", "sleep-edf", "."],) else tmp_path
    ran = command(*arguments, cwd=cwd)
    assert ran.code == code, ran.err
    first, last = ran.err.strip().splitlines()
    assert first.startswith("error: ")
    assert words in first
    assert last.startswith("hint: ")
    assert hint in last
    assert ran.out == ""


def test_an_error_has_its_code_and_under_json_is_json(command, raw: Path, tmp_path: Path) -> None:
    for words in (["status", "nowhere"], ["evaluate", "nowhere"], ["inspect", "nowhere"]):
        ran = command(*words, "--json")
        assert ran.code == 66
        assert ran.err.splitlines()[0].endswith(" [FILE-MISSING]")
        error = json.loads(ran.out)["error"]
        assert error["code"] == "FILE-MISSING"
        assert error["message"].startswith("nowhere: no such")
        assert error["hint"].endswith("holds: nothing")
    (tmp_path / "bad.edf").write_bytes(b"x")
    ran = command("inspect", raw / "SC4001E0-PSG.edf", tmp_path / "bad.edf", "--json")
    assert ran.code == 65
    night, bad = json.loads(ran.out)  # one document
    assert night["kind"] == "recording"
    assert (bad["kind"], bad["error"]["code"]) == ("unreadable", "FILE-FORMAT")
    assert "`" not in f"{bad['error']}"
    assert ran.err.rstrip().endswith("[FILE-FORMAT]")


def test_settings_in_an_error_are_options_in_its_json_too(command, epochs: Path) -> None:
    (epochs.parent / "h.txt").write_text("0\n4\n")
    ran = command("inspect", epochs.parent / "h.txt", "--json")
    assert "--scheme NAME" in json.loads(ran.out)["error"]["hint"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "did you mean 'train'?"),
        (["nonsense"], "the commands are: simulate, fetch, inspect, convert"),
        (["train", "--fodls", "3"], "did you mean '--folds'?"),
        (["train", "--model"], "for example 'sleeptools train epochs runs/mmasleepnet --folds 20"),
        (["convert"], "for example 'sleeptools convert sleep-edf raw recordings'"),
        (["list", "modles"], "did you mean 'models'?"),
        (["list", "model"], "did you mean 'models'?"),
        (["list", "nonsense"], "for example 'sleeptools list models --json'"),
        (["simulate", "sleep-edf", "x", "--hours", "99"], "for example 'sleeptools simulate"),
        (["--verion"], "did you mean '--version'?"),
    ],
)
def test_a_hint_on_a_wrong_line_is_a_right_one(command, arguments: list[str], hint: str) -> None:
    ran = command(*arguments)
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith(f"hint: {hint}")


def test_a_hint_has_one_example(command) -> None:
    err = command("train", "--model").err
    assert "recipe.learning_rate=0.001'; 'sleeptools train --help' lists all options" in err


def test_more_folds_than_subjects(command, epochs: Path) -> None:
    ran = command("train", epochs, "--folds", 4, "--passes", 1)
    assert ran.code == 65
    assert ran.err.startswith("error: ")
    assert "3 subjects" in ran.err
    assert "hint: " in ran.err


def test_one_subject(command, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for path in raw.glob("SC4001*"):
        (tmp_path / "one" / path.name).symlink_to(path)
    made = command("preprocess", "sleep-edf", "one")
    assert made.code == 0
    assert "of 1 simulated recording, 1 subject; next: sleeptools train" in made.err
    ran = command("train", "--passes", 1)
    assert ran.code == 65
    assert "needs >= 2 subjects" in ran.err


def test_damaged_file_names_the_field(command, raw: Path, tmp_path: Path) -> None:
    data = bytearray((raw / "SC4001E0-PSG.edf").read_bytes())
    data[236:244] = b"abc     "
    (tmp_path / "x.edf").write_bytes(data)
    ran = command("inspect", "x.edf")
    assert ran.code == 65
    assert 'error: x.edf: number of data records is "abc" (bytes 236-243)' in ran.err


def test_debug_shows_the_traceback(command) -> None:
    ran = command("train", "nowhere", "--debug")
    assert ran.code == 66
    assert "Traceback" in ran.err


def test_hostile_label_is_escaped(command, raw: Path, tmp_path: Path) -> None:
    data = bytearray((raw / "SC4001E0-PSG.edf").read_bytes())
    data[256:272] = b"\x1b[31m<script>\x07\x07\x07"
    (tmp_path / "x.edf").write_bytes(data)
    ran = command("inspect", "x.edf")
    assert ran.code == 0
    assert "\x1b[31m" not in ran.out
    assert "\\x1b[31m<script>" in ran.out


def test_inspect_json_has_stable_keys(command, raw: Path) -> None:
    ran = command("inspect", raw / "SC4001E0-PSG.edf", raw / "SC4001EC-Hypnogram.edf", "--json")
    psg, scoring = json.loads(ran.out)
    keys = {"path", "format", "kind", "start", "seconds", "notes", "simulated", "signals"}
    assert (
        set(psg)
        == set(scoring)
        == keys
        | {
            "montage",
            "problems",
            "gaps",
            "epochs",
            "epoch_seconds",
            "stages",
        }
    )
    assert [s["label"] for s in psg["signals"]][:2] == ["EEG Fpz-Cz", "EEG Pz-Oz"]
    assert set(psg["signals"][0]) == {
        "label",
        "sample_rate",
        "unit",
        "modality",
        "samples",
        "minimum",
        "maximum",
        "quality",
    }
    kinds = {"not finite", "out of range", "railed", "flat", "clipped", "mains"}
    assert set(psg["signals"][0]["quality"]) == kinds
    assert psg["simulated"] is True
    assert psg["epochs"] == 120
    assert scoring["signals"] == []
    assert scoring["simulated"] is True
    assert sum(scoring["stages"].values()) == scoring["epochs"] > 120


def test_inspect_real_files(command, real_data: Path) -> None:
    folder = real_data / "sleep-edf"
    ran = command(
        "inspect",
        "--json",
        folder / "SC4001E0-PSG_first300s.edf",
        *sorted((folder / "hypnograms").glob("*.edf")),
    )
    assert ran.code == 0
    psg, *hypnograms = json.loads(ran.out)
    assert [s["modality"] for s in psg["signals"]] == [
        "eeg",
        "eeg",
        "eog",
        "resp",
        "emg",
        "temp",
        "event",
    ]
    assert [s["sample_rate"] for s in psg["signals"]] == [100, 100, 100, 1, 1, 1, 1]
    assert None not in psg["montage"].values()
    assert psg["epochs"] == 10
    assert [h["epochs"] for h in hypnograms if "SC4" in h["path"]] == [2880] * 10
    assert ran.err == ""


def test_inspect_takes_folders_and_our_own_recordings(command, raw: Path) -> None:
    assert command("convert", "sleep-edf", raw, "recordings").code == 0
    ran = command("inspect", "--json", raw, "recordings/SC4001.safetensors")
    assert ran.code == 0, ran.err
    folder, ours = json.loads(ran.out)
    assert [n["recording"] for n in folder["nights"]] == ["SC4001", "SC4011", "SC4021"]
    detailed = command("inspect", "--json", "--details", raw)
    assert len(json.loads(detailed.out)) == 6
    assert ours["format"] == "sleeptools-recording"
    assert len(ours["signals"]) == 7
    assert ours["epochs"] == 120
    assert sum(ours["stages"].values()) == 120


def test_inspect_names_what_is_wrong_with_a_hypnogram(command, tmp_path: Path) -> None:
    from sleeptools.formats import edf

    edf.write_annotations(tmp_path / "h.edf", [(0, 30, "Sleep stage 7")], None)
    ran = command("inspect", "h.edf")
    assert ran.code == 65
    assert "unknown stage text 'Sleep stage 7'" in ran.err


def test_bad_files_alone_are_no_nights(command, tmp_path: Path) -> None:
    for name in ("a.edf", "b.edf"):
        (tmp_path / name).write_bytes(b"nonsense")
    assert "error: 2 of 2 files cannot be read" in command("inspect", "a.edf", "b.edf").err


def test_one_bad_file_among_good_ones(command, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.edf").write_bytes(b"nonsense")
    ran = command("inspect", "bad.edf", raw / "SC4001EC-Hypnogram.edf", "--json")
    assert ran.code == 65
    assert [d["kind"] for d in json.loads(ran.out)] == ["unreadable", "hypnogram"]
    assert "bad.edf: not a file of a known format (starts with b'nonsense')" in ran.err


def test_a_training_that_continues_at_the_end_of_a_pass_has_no_estimate_yet() -> None:
    from sleeptools.cli.train import _state

    from sleeptools.commands.train import TrainingProgress

    # stopped after a pass's last step: it is judged before anything is trained on
    p = TrainingProgress("leak-free", 0, 1, 2, 3, 12, True, 6, 24, 1.5, 0.1, float("nan"), 0.0)
    assert _state(p) == "step 6/24 loss 1.500 val kappa 0.100 0 epochs/s ? left"


def test_settings_are_written_as_options(capsys) -> None:
    from sleeptools import cli

    text = "`device=cuda`: use `device=cpu`, `recipe.batch=64`, `final` or `epoch_seconds`"
    expected = "--device cuda: use --device cpu, --set recipe.batch=64, --final or --epoch-seconds"
    cli.talk(text)
    cli.talk("`settings=batch`, `seeds=-1`")
    assert capsys.readouterr().err.splitlines() == [expected, "--set batch, --seed -1"]


def test_printed_numbers_are_listed_as_printed(command):
    items = json.loads(command("list", "published", "--json").out)
    assert {"s0-table-3", "s2-table-i", "s3-headline", "s4-fig-5a"} <= {i["item"] for i in items}
    shown = command("list", "published", "s4-table-1")
    assert "0.9765" in shown.out  # fold 1, wake: 97.65 per cent
    assert "fold 5" in shown.out
    assert "in the figure only" in command("list", "published", "s4-fig-2a").err
    numbers = json.loads(command("list", "published", "s2-fig-6", "--json").out)
    counts = [n["value"] for n in numbers if n["metric"].startswith("predicted ") and n["stage"]]
    assert sum(counts[:9]) == 111_254
    wrong = command("list", "published", "s0-tabel-3")
    assert (wrong.code, "did you mean 's0-table-3'" in wrong.err) == (2, True)


def test_the_start_page_fits_a_terminal_and_its_lines_run(tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "sleeptools.cli"], capture_output=True, text=True, check=True
    ).stdout
    assert max(map(len, shown.splitlines())) <= 80
    lines = [line.split()[1:] for line in shown.splitlines() if line.startswith("  sleeptools ")]
    assert {"score", "simulate", "preprocess", "train", "report", "agree", "review"} <= {
        words[0] for words in lines
    }
    group = typer.main.get_command(cli.build_app())
    for words in lines:
        group.commands[words[0]].make_context(words[0], words[1:])  # the line can be taken


def test_words_are_completed():
    def completed(words: str, place: int) -> list[str]:
        asked = {"_SLEEPTOOLS_COMPLETE": "complete_bash", "COMP_WORDS": words}
        ran = subprocess.run(
            [sys.executable, "-m", "sleeptools.cli"],
            env={**os.environ, **asked, "COMP_CWORD": str(place)},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout.split()

    assert completed("sleeptools sc", 1) == ["score"]
    assert "--match-channels-by-order" in completed("sleeptools score --m", 2)
