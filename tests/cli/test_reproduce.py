"""The reproduction scripts: the command line understands their words, and each runs in small."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import typer

from sleeptools import cli, registry
from sleeptools.evaluation import published
from sleeptools.models.recipe.recipe import brought_settings, resolve_recipe
from sleeptools.preprocessing import presets
from sleeptools.report.items.arrangements import ARRANGEMENTS
from sleeptools.runs.run import run_progress
from sleeptools.store import settings

FOLDER = Path(__file__).parents[2] / "reproduce"
ITEM = FOLDER / "item.sh"
SCRIPTS = {p.stem: p for p in sorted(FOLDER.glob("[!_]*.sh")) if p != ITEM}
SLEEPTOOLS = Path(sys.executable).with_name("sleeptools")
HUMAN = (
    "sleep-edf-20",
    "sleep-edf-78",
    "ablations",
    "ulw",
    "masleepnet-ablations",
    "slumbernet-people",
)
"""Scripts that fetch their data."""


VARIANTS = ("ablations", "masleepnet-ablations")
"""Scripts that train variants of one model in one command."""
UNSEEN = "slumbernet-unseen"
"""The script that tests a final model on animals that it names."""
MICE = "mouse-01,mouse-02,mouse-03"


def start(
    name: str, folder: Path, *words: str, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run a script from a folder, with its settings."""
    variables = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "TMPDIR"}}
    overrides = {k: str(v) for k, v in settings.items()}
    environment = variables | {"SLEEPTOOLS": str(SLEEPTOOLS), "OMP_NUM_THREADS": "1"} | overrides
    return subprocess.run(
        [FOLDER / f"{name}.sh", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def planned(name: str, folder: Path, *words: str, **settings: object) -> list[list[str]]:
    """List the words of every command that a script would run, without running one."""
    done = start(name, folder, *words, DRY=1, **settings)
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return [shlex.split(line)[1:] for line in done.stderr.splitlines() if line.startswith("+ ")]


def ours(commands: list[list[str]]) -> list[list[str]]:
    """List the words that sleeptools gets, at once or from a job."""
    return [words[words.index(str(SLEEPTOOLS)) + 1 :] for words in commands]


def parsed(words: list[str]) -> tuple[str, dict[str, object]]:
    """Parse a command line as the program does, without doing anything."""
    app = typer.main.get_command(cli.build_app())
    context = app.make_context("sleeptools", list(words))
    name, command, arguments = app.resolve_command(context, list(words))
    return str(name), command.make_context(name, arguments, parent=context).params


# --- in words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda p: p.stem)
def test_every_script_parses(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if not script.stem.startswith("_"):
        assert os.access(script, os.X_OK)
        assert "set -euo pipefail" in script.read_text()


def test_there_is_a_script_for_every_published_table_and_a_row_for_every_script() -> None:
    assert set(SCRIPTS) == {
        "sleep-edf-20",
        "sleep-edf-78",
        "isruc-1",
        "isruc-3",
        "ablations",
        "slumbernet",
        "mouse",
        "ulw",
        "masleepnet-ablations",
        "slumbernet-people",
        "slumbernet-unseen",
    }
    rows = [row for row in (FOLDER / "README.md").read_text().splitlines() if row.startswith("| `")]
    table = {row.split("`")[1].removesuffix(".sh"): row.strip("| ").split(" | ") for row in rows}
    assert set(table) >= set(SCRIPTS)
    for name in SCRIPTS:
        assert len(table[name]) == 4, name
        assert all(len(cell) > 3 for cell in table[name]), name


def test_every_setting_is_in_the_readme() -> None:
    used = (FOLDER / "_common.sh").read_text()
    text = (FOLDER / "README.md").read_text()
    for name in (
        "DATA",
        "UNSEEN",
        "PREPARE",
        "TRAIN",
        "WORK",
        "MODELS",
        "PROTOCOL",
        "SEEDS",
        "PASSES",
        "JOBS",
        "SIMULATE",
        "SUBJECTS",
        "HOURS",
        "SLURM",
        "SBATCH",
        "SBATCH_TRAIN",
        "DRY",
        "SLEEPTOOLS",
    ):
        assert f"{name}" in used
        assert f"| `{name}" in text


@pytest.mark.parametrize("slurm", [0, 1])
@pytest.mark.parametrize("simulate", [0, 1])
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_of_a_script_is_understood(
    name: str, simulate: int, slurm: int, tmp_path: Path
) -> None:
    folders = {} if simulate else {"DATA": FOLDER, "UNSEEN": MICE}
    settings = {"SIMULATE": simulate, "SLURM": slurm} | folders
    words = ours(planned(name, tmp_path, **settings))
    commands = [parsed(w) for w in words]
    assert [command for command, _ in commands if command != "train"] == [
        *(["simulate"] if simulate else []),
        "convert",
        *["preprocess"] * {"slumbernet": 3, "ulw": 2}.get(name, 1),
        "evaluate",
        "report",
    ]
    montages = {str(o["epochs"]): o["preset"] for command, o in commands if command == "preprocess"}
    trainings = [options for command, options in commands if command == "train"]
    for options in trainings:
        understood(options, presets.load(str(montages[str(options["epochs"])])))
        assert (options["folds_from"] == "published") == (
            not simulate and name not in {"isruc-1", "slumbernet", "mouse", UNSEEN}
        )
    evaluated = [o for command, o in commands if command == "evaluate"][-1]["runs"]
    assert [o["runs"] for command, o in commands if command == "report"] == [evaluated]
    if name == UNSEEN:
        assert [(o["final"], o["hold_out"]) for o in trainings] == [(True, MICE)]
    if name not in VARIANTS:
        assert evaluated == [o["run"] for o in trainings]


def understood(options: dict[str, object], preset: presets.Preset) -> None:
    """Check a training's settings against the model, and the model against the epochs."""
    module = registry.load("models", str(options["model"]))
    values = settings.read_settings(None, options["settings"])  # type: ignore[arg-type]
    recipe = {
        "variant": options["recipe"] or "default",
        **settings.settings_table(values, "recipe"),
    }
    variant = resolve_recipe(module, recipe).variant
    given = brought_settings(module, variant) | settings.settings_table(values, "model")
    model = settings.resolve(module.Config, given, section="model")
    assert (model.channels, model.sample_rate, model.epoch_seconds, model.stages) == (
        len(preset.montage),
        preset.sample_rate,
        preset.epoch_seconds,
        len(preset.stages),
    )


TABLE_3 = {
    "attnsleep": "mmasleepnet",
    "sleepprintnet": "mmasleepnet",
    "salientsleepnet": "mmasleepnet",
}


@pytest.mark.parametrize("name", ["sleep-edf-20", "sleep-edf-78", "isruc-1", "isruc-3"])
def test_the_baselines_are_trained_as_the_paper_trained_them(name: str, tmp_path: Path) -> None:
    commands = [parsed(w) for w in ours(planned(name, tmp_path, DATA=FOLDER))]
    recipes: dict[object, list[object]] = {}
    for command, options in commands:
        if command == "train":
            recipes.setdefault(options["model"], []).append(options["recipe"])
    isruc = "-isruc" if name.startswith("isruc") else ""
    for model, recipe in TABLE_3.items():
        assert recipes[model] == [recipe + isruc]
    assert recipes["mmasleepnet"] == ["authors", "paper", "printed", "released"]


def test_slumbernet_is_tested_as_paper_and_program_did(tmp_path: Path) -> None:
    commands = [parsed(w) for w in ours(planned("slumbernet", tmp_path, DATA=FOLDER))]
    presets_of = {str(o["epochs"]): o["preset"] for c, o in commands if c == "preprocess"}
    found = [
        (presets_of[str(o["epochs"])], o["recipe"], o["split"], o["protocol"], o["folds"])
        for c, o in commands
        if c == "train"
    ]
    both = "leak-free,best-on-test"
    assert found == [
        ("slumbernet-authors", "authors", "stratified-shuffle", "best-on-test", 5),
        ("slumbernet-paper", "paper", "stratified-shuffle", "best-on-test", 5),
        ("slumbernet-paper", "paper", None, both, 5),
        ("slumbernet", None, None, both, 5),
    ]


@pytest.mark.parametrize("name", HUMAN)
def test_sleep_edf_is_fetched(name: str, tmp_path: Path) -> None:
    first = planned(name, tmp_path)[0]
    command, options = parsed(first[1:])
    assert command == "fetch"
    assert options["subset"] == ("78" if name in {"sleep-edf-78", "ulw"} else "20")


def test_trainings_are_planned_and_submitted(tmp_path: Path) -> None:
    commands = planned(
        "sleep-edf-78",
        tmp_path,
        SLURM=1,
        DATA=FOLDER,
        SBATCH="-p long -A lab",
        SBATCH_TRAIN="--gres=gpu:1",
        MODELS="mmasleepnet attnsleep",
        SEEDS="0,1",
    )
    kinds = [w[0] for w in ours(commands)]
    assert kinds == ["convert", "preprocess", "train", "train", "evaluate", "report"]
    for words, kind in zip(commands, kinds, strict=True):
        assert (words[0] == "sbatch") == (kind != "train")
        if kind == "train":
            given = parsed(words[1:])[1]
            assert given["submit"]
            assert given["seed"] == "0,1"
            slurm = settings.read_settings(None, given["settings"])["slurm"]  # type: ignore[arg-type]
            assert slurm["options"] == ["-p long", "-A lab", "--gres=gpu:1"]
            assert slurm["report_options"] == ["-p long", "-A lab"]
            assert slurm["job_name"] == f"sleep-edf-78-{given['model']}"
        else:
            assert words[words.index("-p") + 1 : words.index("-A") + 2] == ["long", "-A", "lab"]
            assert ("--wait" in words) == (kind in {"convert", "preprocess"})
    after = [[w for w in words if w.startswith("--dependency")] for words in commands]
    assert after == [*4 * [[]], ["--dependency=afterok:JOB:JOB"], ["--dependency=afterok:JOB"]]


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"MODELS": "slumbernet nonsense"}, 2, "mouse has no run nonsense"),
        ({}, 66, "DATA is not set"),
        ({"DATA": "nowhere"}, 66, "no folder nowhere"),
        ({"SLEEPTOOLS": "./nothing"}, 69, "not found"),
    ],
)
def test_wrong_settings_end_a_script_at_once(
    settings: dict[str, str], code: int, message: str, tmp_path: Path
) -> None:
    done = start("mouse", tmp_path, **settings)
    assert done.returncode == code
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert not list(tmp_path.rglob("raw"))


def test_unseen_mice_are_named(tmp_path: Path) -> None:
    done = start(UNSEEN, tmp_path, DATA=tmp_path, DRY=1)
    assert done.returncode == 66
    assert "UNSEEN is not set" in done.stderr
    assert "UNSEEN=m10,m11,m12" in done.stderr


def test_a_step_that_fails_ends_a_script_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    done = start("mouse", tmp_path, DATA="raw")
    assert done.returncode == 65
    assert "holds no MATLAB files" in done.stderr
    assert done.stderr.count("\n+ ") == 0  # nothing after the first


# --- a table or figure at a time ------------------------------------------------------------------

ITEMS = published.published_items()["item"].to_list()


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_is_drawn_from_runs_that_the_scripts_make(item: str, tmp_path: Path) -> None:
    commands = [parsed(words) for words in ours(planned("item", tmp_path, item, SIMULATE=1))]
    name, options = commands[-1]
    assert (name, options["published"]) == ("report", item)
    assert options["out"] == tmp_path / "work" / "item-simulated" / item
    arrangement = ARRANGEMENTS[item]
    made = {
        str(o.get("run") or o.get("out") or o.get("epochs"))
        for command, o in commands
        if command in {"train", "preprocess", "evaluate"}
    }
    fed = [str(source).rpartition("=")[2] for source in options["runs"] or []]  # type: ignore[attr-defined]
    assert bool(fed) == (not arrangement.reason and item != "s0-table-2")
    for source in fed:
        relative = Path(source).relative_to(tmp_path / "work")
        assert relative.parts[0].removesuffix("-simulated") in SCRIPTS
        path = Path(*relative.parts[1:])
        assert str(path) in made or str(path.parent) in made  # a variant is in its training's run
        assert arrangement.takes_epochs or path.parts[0] == "runs"


def test_an_item_draws_no_page_of_its_runs(tmp_path: Path) -> None:
    commands = [parsed(w)[0] for w in ours(planned("item", tmp_path, "s0-fig-5", SIMULATE=1))]
    assert commands == ["simulate", "convert", "preprocess", "train", "report"]


def test_an_item_is_drawn_from_one_data_set_or_several(tmp_path: Path) -> None:
    done = start("item", tmp_path, "s0-fig-3", DRY=1, DATA_SLEEP_EDF=FOLDER)
    assert done.returncode == 66
    assert "DATA is not set" in done.stderr
    words = planned("item", tmp_path, "s0-fig-3", DATA_SLEEP_EDF=FOLDER, DATA_ISRUC=FOLDER)
    raws = [o["raw"] for command, o in map(parsed, ours(words)) if command == "convert"]
    assert raws == [FOLDER] * 4


def test_an_item_is_not_drawn_by_jobs(tmp_path: Path) -> None:
    done = start("item", tmp_path, "s0-table-3", SLURM=1, DRY=1)
    assert done.returncode == 2
    assert "with SLURM=1" in done.stderr
    assert start("item", tmp_path).returncode != 0


# --- in deed --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_from_nothing_to_its_report(name: str, tmp_path: Path) -> None:
    subjects = {"SUBJECTS": 2} if name == "mouse" else {}  # a quarter of an hour otherwise
    protocol = {"PROTOCOL": "leak-free"} if name in {"sleep-edf-78", "isruc-1", "mouse"} else {}
    settings = {"SIMULATE": 1, "HOURS": 0.5, **subjects, **protocol}
    done = start(name, tmp_path, **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "work" / f"{name}-simulated"
    assert done.stdout.splitlines()[-1] == f"report: {folder / 'report.html'}"
    page = (folder / "report.html").read_text()
    assert "simulated" in page.lower()
    evaluated = [
        options["runs"]
        for command, options in map(parsed, ours(planned(name, folder / "logs", **settings)))
        if command == "evaluate"
    ][-1]
    for run in evaluated:  # type: ignore[attr-defined]
        assert run_progress(folder / run)["missing"] == []
        assert run.name in page
        table = pl.read_csv(folder / run / "metrics.csv", infer_schema_length=None)
        kappa = table.filter(pl.col("metric") == "kappa")
        assert kappa["value"].is_not_null().all()
        assert len(kappa)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("predictions.parquet")}
    again = start(name, tmp_path, **settings)
    assert again.returncode == 0
    assert "loss" not in again.stderr  # nothing is trained twice
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("predictions.parquet")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "item",
    [
        "s0-table-1",
        "s0-fig-4a",
        "s1-accuracies",
        "s1-figures",
        "s2-fig-5",
        "s3-headline",
        "s4-table-1",
        "s4-table-3",
        "s4-fig-5a",
        "s4-scoring-time",
        "s4-fig-6",
    ],
)
def test_an_item_is_drawn_from_nothing(item: str, tmp_path: Path) -> None:
    done = start("item", tmp_path, item, SIMULATE=1, JOBS=1, PROTOCOL="best-on-test")
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "work" / "item-simulated" / item
    assert "SIMULATED DATA" in (folder / f"{item}.html").read_text()
    table = pl.read_csv(folder / f"{item}.csv", infer_schema_length=None)
    assert table["result"].str.starts_with("ours").any()
