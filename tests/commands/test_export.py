"""Exported models: each format scores as its model does, and runs where sleeptools is not."""

import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import golden_models
from preset_model import model_facts
from sleeptools import formats, registry
from sleeptools.commands import export
from sleeptools.commands.export import comparison
from sleeptools.commands.export.formats import c
from sleeptools.commands.export.graph import export_graph
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, OutputError, UnavailableError, UsageError
from sleeptools.inference.card import METADATA
from sleeptools.inference.engine import Engine
from sleeptools.inference.onnx_file import SUM, read_onnx
from sleeptools.models.folder import build_model, save_model
from sleeptools.models.recipe.recipe import brought_settings
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.sequences import InputSpan
from sleeptools.runs import model_folder
from sleeptools.store.libraries import install_line

pytestmark = pytest.mark.usefixtures("one_thread")
EPOCHS = 60
QUICK = {("ulw-sleepnet", "onnx"), ("ulw-sleepnet", "pt2"), ("mmasleepnet", "onnx")}
PRESETS = {name: "kjaerby" for name in registry.names("models") if name.startswith("mouse")}
PRESETS |= {"slumbernet": "slumbernet"}
SMALL = {
    "slumbernet": {"blocks": 5, "filters": 4, "sample_rate": 64.0, "epoch_seconds": 4.0},
    "salientsleepnet": {"sequence": 11, "filters": 4},
}
CALIBRATION = {"temperature": 1.25, "fitted_on": "validation", "subjects": 2, "epochs": 9}
CORTEX_M4 = Path(__file__).parents[1] / "helpers" / "cortex_m4"
onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("onnxruntime", "onnxscript")),
    reason="onnxruntime and onnxscript are not installed",
)
compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
EVERY = [
    pytest.param(
        name,
        kind,
        marks=[pytest.mark.slow] * ((name, kind) not in QUICK) + [onnx] * (kind == "onnx"),
    )
    for name in registry.names("models")
    for kind in ("onnx", "pt2")
]


@pytest.fixture(autouse=True)
def _one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def make(folder: Path, name: str = "ulw-sleepnet", recipe: str = "", **facts: object) -> Path:
    """Save a model of random weights with running statistics of noise as slow as an EEG."""
    torch.manual_seed(1)
    brought = brought_settings(registry.load("models", name), recipe)
    model = build_model(name, brought | SMALL.get(name, {}))
    preset = presets.load(PRESETS.get(name, "sleep-edf"))
    with torch.no_grad():
        count = 16 if name == "ulw-sleepnet" else 4
        model.train()(torch.randn(count, *golden_models.shape(model.config)).cumsum(-1))
        last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
        last.weight *= 30 if name == "ulw-sleepnet" else 5
    save_model(model, folder, model_facts(preset) | facts)
    return folder


@pytest.fixture(scope="module")
def ulw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model") / "final", simulated=True, calibration=CALIBRATION)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=1, hours=0.6, seed=4)


# --- graphs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_a_graph_scores_as_its_model_where_sleeptools_is_not(
    name: str, kind: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "model", name)
    out = tmp_path / "elsewhere" / f"model.{kind}"
    exported = export.export(folder, out, kind=kind, epochs=EPOCHS)
    assert exported.files == [out]
    assert exported.agreement.epochs == EPOCHS
    assert exported.agreement.difference <= 1e-5
    engine = Engine.load(folder)
    several = (engine.span.sequence, 1 + 2 * engine.span.context)
    shape = (3, *(n for n in several if n > 1), *engine.size)
    x = np.random.default_rng(3).normal(0, 20, shape).astype(np.float32).cumsum(-1) / 20
    density = loaded_elsewhere(out, x)
    assert density.shape == engine.network(x).shape
    assert comparison.largest_difference(engine.network(x), density) <= 2e-5
    assert abs(density.sum(-1) - 1).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("onnx", marks=onnx), "pt2"])
@pytest.mark.parametrize(
    ("name", "recipe"),
    [("mmasleepnet", "printed"), ("slumbernet", "paper"), ("mouse-cnn-attention", "paper")],
)
def test_a_network_that_a_recipe_brings_along_is_exported(
    name: str, recipe: str, kind: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "model", name, recipe)
    exported = export.export(folder, tmp_path / f"model.{kind}", kind=kind, epochs=EPOCHS)
    assert exported.agreement.difference <= 1e-5


def loaded_elsewhere(path: Path, x: np.ndarray) -> np.ndarray:
    """Score in a process that cannot import sleeptools, and that knows no operator of ours."""
    np.save(path.with_name("x.npy"), x)
    run = {
        ".onnx": "import onnxruntime as o; s = o.InferenceSession(name); "
        "y = s.run(['probabilities'], {'signals': x})[0]",
        ".pt2": "import torch; y = torch.export.load(name).module()(torch.from_numpy(x)).numpy()",
    }[path.suffix]
    code = (
        "import sys; sys.modules['sleeptools'] = None\nimport numpy as np\n"
        f"x, name = np.load('x.npy'), {path.name!r}\n{run}\nnp.save('y.npy', y)"
    )
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, cwd=path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(path.with_name("y.npy"))


@pytest.fixture(scope="module")
def ulw_onnx(ulw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "ulw.onnx"
    export.export(ulw, out, kind="onnx", epochs=EPOCHS)
    return out


@onnx
def test_an_onnx_file_scores_the_same_stages_as_its_folder(
    ulw: Path, ulw_onnx: Path, raw: Path, command, tmp_path: Path
) -> None:
    night = next(raw.glob("*-PSG.edf"))
    assert command("score", ulw, night, "--out", "a").code == 0
    assert command("score", ulw_onnx, night, "--out", "b").code == 0
    a, b = (
        formats.read_hypnogram(tmp_path / d / f"{night.stem}-hypnogram.edf") for d in ("a", "b")
    )
    assert np.array_equal(a.stages, b.stages)
    assert len(np.unique(a.stages)) > 1
    assert a.scorer == b.scorer == "simulated"
    tables = [pl.read_csv(tmp_path / d / f"{night.stem}.csv") for d in ("a", "b")]
    p, q = (t.select(pl.col("^p_.*$")).to_numpy() for t in tables)
    assert p.shape[1] == 5
    assert abs(p - q).max() < 2e-5  # both by the temperature


@onnx
def test_the_card_has_every_fact_of_the_folder(ulw: Path, ulw_onnx: Path, tmp_path: Path) -> None:
    out = Path(shutil.copy(ulw_onnx, tmp_path))
    card = json.loads(read_onnx(out).metadata[METADATA])
    facts = model_folder.read_config(ulw)
    assert {k: card[k] for k in facts if k not in ("format", "version")} == {
        k: v for k, v in facts.items() if k not in ("format", "version")
    }
    assert card["calibration"] == CALIBRATION
    assert card["scaling"] == facts["preprocessing"]["preset"]["processing"]
    assert (card["output"], card["sequence"], card["licence"]) == ("probabilities", 1, "not stated")
    assert [p.name for p in Engine.load(out).files] == ["ulw.onnx"]
    assert b"org.pytorch.aten" not in out.read_bytes()  # no function but ONNX's operators
    content = out.read_bytes()
    out.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        Engine.load(out)
    assert caught.value.code == "ONNX-DAMAGED"


@onnx
def test_a_flipped_bit_of_an_onnx_file_is_refused(ulw_onnx: Path, tmp_path: Path) -> None:
    content = bytearray(ulw_onnx.read_bytes())
    keys = [content.index(SUM.encode()), content.rindex(SUM.encode())]
    assert keys[0] < keys[1], "the card says that there is a sum, and the metadata have it"
    rng = np.random.default_rng(6)
    for at in (*(8 * key for key in keys), *rng.integers(0, 8 * len(content), 40).tolist()):
        content[at // 8] ^= 1 << at % 8
        (tmp_path / "flipped.onnx").write_bytes(content)
        with pytest.raises(DataError) as caught:
            Engine.load(tmp_path / "flipped.onnx")
        assert caught.value.code in ("ONNX-SUM", "ONNX-DAMAGED", "JSON-SYNTAX", "FACT-KIND"), at
        content[at // 8] ^= 1 << at % 8


# --- C --------------------------------------------------------------------------------------------


@compiler
def test_c_scores_as_the_engine(ulw: Path, tmp_path: Path, command) -> None:
    ran = command("export", ulw, "my-net.c", "--format", "c")
    assert (ran.code, ran.out) == (0, "my-net.c\nmy-net.h\n"), ran.err
    assert "RAM" in ran.err
    assert "simulated night of 960 epochs: probabilities within" in ran.err
    engine = Engine.load(ulw, calibrated=False)
    x = np.random.default_rng(5).normal(0, 30, (6, 4, 3000)).astype(np.float32)
    x[2, 3, 2999] = np.nan
    density = c.load(tmp_path / "my-net.c", engine).hypnodensity(x)
    assert comparison.largest_difference(engine.hypnodensity(x), density) <= 1e-5
    assert np.isnan(density[2]).all()
    header = (tmp_path / "my-net.h").read_text()
    assert '#define MY_NET_STAGE_NAMES "W", "N1", "N2", "N3", "REM"' in header
    assert "#define MY_NET_WORKSPACE 18128 /* floats */" in header
    # the library tells a sample that is not finite by itself
    function = ctypes.CDLL(str(tmp_path / "my-net.so"))["my_net_score"]
    space, p = np.full(18128, np.nan, np.float32), np.empty(5, np.float32)
    arguments = [[ctypes.c_void_p(a.ctypes.data) for a in (e, space, p)] for e in x]
    assert [function(*words) for words in arguments] == [1, 1, 0, 1, 1, 1]


@compiler
def test_an_interrupted_export_is_written_again(ulw: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.c"
    export.export(ulw, out, kind="c", epochs=EPOCHS)
    source = out.read_text()
    out.unlink()  # the header gets its name first
    export.export(ulw, out, kind="c", epochs=EPOCHS)
    assert out.read_text() == source
    out.unlink()
    out.with_suffix(".h").write_text("mine")
    with pytest.raises(OutputError, match=r"net.h: exists"):
        export.export(ulw, out, kind="c", epochs=EPOCHS)
    assert not out.exists()
    export.export(ulw, out, kind="c", epochs=EPOCHS, force=True)
    assert "NET_STAGES" in out.with_suffix(".h").read_text()


@compiler
def test_no_fact_of_a_folder_becomes_code(ulw: Path, tmp_path: Path) -> None:
    hostile = ['"; int x;', "*/ int y; /*", "??/", "\\", "é"]
    facts = model_folder.read_config(ulw) | {"stages": hostile, "note": "*/ #error /* ??/\n\\"}
    weights = {k: np.array(v) for k, v in model_folder.read_weights(ulw).items()}
    model_folder.write_model_folder(tmp_path / "model", facts, weights)
    engine = Engine.load(tmp_path / "model")
    c.export(engine, tmp_path / "model", tmp_path / "net.c")
    assert c.load(tmp_path / "net.c", engine).stages == tuple(hostile)
    words = [shutil.which("cc"), *c.FLAGS, "-E", "-P", "-x", "c", tmp_path / "net.h", "-dM"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "int y" not in done.stdout.replace(c.c_text(hostile[1]), "")
    assert "#define NET_STAGE_NAMES" in done.stdout


@pytest.mark.parametrize(
    ("stem", "name"), [("Sleep-2", "sleep_2"), ("2nd", "model_2nd"), ("é", "model"), ("_a", "a")]
)
def test_names_in_c(stem: str, name: str) -> None:
    assert c.c_name(stem) == name


@compiler
@pytest.mark.parametrize("channels", [1, 10])
def test_c_takes_any_number_of_signals(tmp_path: Path, channels: int) -> None:
    model = golden_models.fill(build_model("ulw-sleepnet", {"channels": channels, "stages": 3}))
    preset = presets.load("sleep-edf")
    facts = model_facts(preset) | {"montage": ["EEG"] * channels, "stages": ["W", "N", "REM"]}
    save_model(model, tmp_path / "model", facts)
    engine = Engine.load(tmp_path / "model")
    c.export(engine, tmp_path / "model", tmp_path / "net.c")
    x = golden_models.signals(model.config, 4).numpy()
    density = c.load(tmp_path / "net.c", engine).hypnodensity(x)
    assert comparison.largest_difference(engine.hypnodensity(x), density) <= 1e-5


@pytest.fixture
def arm(skip_loudly) -> Iterator[None]:
    for program in (c.ARM, "qemu-system-arm"):
        if not shutil.which(program):
            skip_loudly(f"the C export was not run on a Cortex-M4: there is no {program}")
    return


@pytest.mark.slow
def test_c_on_a_cortex_m4(ulw: Path, tmp_path: Path, arm: None) -> None:
    out = tmp_path / "model.c"
    exported = export.export(ulw, out, kind="c")
    sizes = " ".join(exported.about)
    flash, ram = (float(sizes.split(word)[1].split()[0]) for word in ("flash ", "RAM "))
    assert flash < 24
    assert ram * 1024 <= c.RAM
    assert "static data 0 bytes" in sizes
    parts = [out, *(CORTEX_M4 / name for name in ("main.c", "startup.c"))]
    flags = ["-std=gnu11", "-O2", "-Wall", "-Werror", f"-I{tmp_path}", "--specs=rdimon.specs"]
    words = [c.ARM, *c.CORTEX_M4, *flags, "-T", CORTEX_M4 / "memory.ld", *parts, "-lm"]
    subprocess.run([*words, "-o", tmp_path / "model.elf"], check=True)
    engine = Engine.load(ulw, calibrated=False)
    preset = presets.load("sleep-edf")
    recording = comparison.simulated_night(preset, EPOCHS)
    x = np.stack([recording.signals[n].read() for n in preset.labels])[:, : 12 * 3000]
    x = np.ascontiguousarray(x.reshape(4, 12, 3000).transpose(1, 0, 2), np.float32)
    x[7, 0, 0] = np.inf
    x.tofile(tmp_path / "signals.bin")
    machine = ["-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    semihosting = ["-semihosting-config", "enable=on,target=native", "-kernel", "model.elf"]
    subprocess.run(
        ["qemu-system-arm", *machine, *semihosting], cwd=tmp_path, check=True, timeout=120
    )
    density = np.fromfile(tmp_path / "probabilities.bin", np.float32).reshape(12, 5)
    assert np.isnan(density[7]).all()
    assert comparison.largest_difference(engine.hypnodensity(x), density) <= 1e-5


# --- what goes wrong ------------------------------------------------------------------------------


def test_wrong_use(ulw: Path, command, tmp_path: Path) -> None:
    other = make(tmp_path / "mma", "mmasleepnet")
    ran = command("export", other, "x.c", "--format", "c")
    assert ran.code == 2
    assert "written for ulw-sleepnet" in ran.err
    assert command("export", ulw, "x.onnx", "--format", "tflite").code == 2
    assert command("export", ulw, "x.bin", "--format", "pt2").code == 2
    assert command("export", ulw, "x.onnx").code == 2
    assert command("export", tmp_path / "none", "x.pt2", "--format", "pt2").code == 66
    (tmp_path / "there.c").write_text("mine")
    (tmp_path / "folder.c").mkdir()
    for name, hint in (("there.c", "--force"), ("folder.c", "it is a folder")):
        ran = command("export", ulw, name, "--format", "c")
        assert (ran.code, hint in ran.err) == (73, True), ran.err
    ran = command("export", ulw, ulw / "x.c", "--format", "c")
    assert (ran.code, "the model's folder" in ran.err) == (73, True)
    assert (tmp_path / "there.c").read_text() == "mine"
    assert not (tmp_path / "there.h").exists()
    assert sorted(p.name for p in ulw.iterdir()) == ["config.json", "model.safetensors"]
    (ulw.parent / "damaged").mkdir()
    shutil.copy(ulw / "config.json", ulw.parent / "damaged")
    assert command("export", ulw.parent / "damaged", "x.c", "--format", "c").code == 66


def test_a_graph_takes_the_epochs_that_its_engine_takes(ulw: Path) -> None:
    engine = Engine.load(ulw, calibrated=False)
    engine.span = InputSpan(sequence=3)
    with pytest.raises(UsageError, match="looks at a night as a whole"):
        export_graph(engine, ulw)


@compiler
def test_what_differs_is_not_written(
    ulw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "TOLERANCE", -1.0)
    with pytest.raises(DataError, match="nothing was written: a probability differs by") as caught:
        export.export(ulw, tmp_path / "x.c", kind="c", epochs=EPOCHS)
    assert caught.value.code == "EXPORT-DIFFERS"
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_a_missing_library_or_compiler_is_named(
    ulw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UnavailableError) as caught:
        export.export(ulw, tmp_path / "x.onnx", kind="onnx", epochs=EPOCHS)
    assert caught.value.hint == install_line("onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.2")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="a C compiler is needed") as caught:
        export.export(ulw, tmp_path / "x.c", kind="c", epochs=EPOCHS)
    assert caught.value.exit_code == 69


def test_a_model_without_preset_cannot_be_compared(ulw: Path, tmp_path: Path) -> None:
    facts = model_folder.read_config(ulw) | {"preprocessing": {}}
    weights = {k: np.array(v) for k, v in model_folder.read_weights(ulw).items()}
    model_folder.write_model_folder(tmp_path / "model", facts, weights)
    with pytest.raises(DataError, match="does not say how its signals were preprocessed"):
        export.export(tmp_path / "model", tmp_path / "x.c", kind="c", epochs=EPOCHS)
