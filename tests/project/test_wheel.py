"""The wheels of `make dist`: without compiler and torch, and beside torch with one OpenMP runtime.

`make wheel` builds them and names their folder in SLEEPTOOLS_DIST; without it they are not tried.
"""

import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from sleeptools import native
from sleeptools.preprocessing import presets
from tests.helpers.preset_model import save_preset_model

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements-score.txt"
TOOLS = Path(os.environ.get("SLEEPTOOLS_TOOLS") or f"{sys.prefix}-tools/bin")
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang", "nvcc", "cmake", "ninja", "make")
LONGEST = 60  # s of a CPU, from an empty environment to an evaluation
ARCHIVE = ROOT / "tests/data/archive"
CHAIN = """
sleeptools simulate sleep-edf raw --subjects 1 --hours 2.5
sleeptools preprocess sleep-edf raw epochs
sleeptools score default raw/SC4001E0-PSG.edf --out scores
sleeptools score model raw/SC4001E0-PSG.edf --out scored
sleeptools evaluate run
sleeptools evaluate model --on epochs --out runs/test
"""
ONE_RUNTIME = """
import {first}
import {second}
import re, numpy as np, torch
from sleeptools import native
from sleeptools.models.ops import feed_forward
torch.set_num_threads(2)
x = torch.randn(512, 512); x @ x  # threads of torch's
for arguments in feed_forward.examples("cpu")[:1]:
    feed_forward.feed_forward(*arguments)
text = open("/proc/self/maps").read()
names = {{l.split()[-1] for l in text.splitlines() if re.search(r"lib(g|i)?omp5?[-.][^/]*$", l)}}
print(native.describe())
print(*sorted(names), sep="\\n")
"""


def busy_seconds() -> float:
    """Return the CPU time of all commands so far, s: what they take where nobody else computes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(words: list[object], **settings: object) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **settings,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_scoring_machine_installs_all_but_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = REQUIREMENTS.read_text().splitlines()
    assert [row for row in rows if not row.startswith("#")] == [
        name for name in project["dependencies"] if not name.startswith("torch")
    ]


def test_the_conda_recipe_and_the_images_name_what_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / "packaging/conda/recipe.yaml").read_text()
    assert f'version: "{project["version"]}"' in recipe
    run_table = recipe.split("  run:\n")[1].split("\n\n")[0]
    other_names = {"matplotlib": "matplotlib-base", "torch": "pytorch"}
    wanted = [re.sub(r"(>=.*)", r" \1", name) for name in project["dependencies"]]
    wanted = [
        other_names.get(name.split()[0], name.split()[0]) + " " + name.split()[1] for name in wanted
    ]
    assert re.findall(r"- (.*)", run_table) == [f"python {project['requires-python']}", *wanted]
    for name in ("Containerfile", "apptainer.def"):
        text = (ROOT / "packaging" / name).read_text()
        assert "requirements-score.txt" in text
        assert next(d for d in project["dependencies"] if d.startswith("torch")) in text


@pytest.fixture(scope="module")
def dist() -> Path:
    if "SLEEPTOOLS_DIST" not in os.environ:
        pytest.skip("'make wheel' builds the wheels and tries them")
    return Path(os.environ["SLEEPTOOLS_DIST"])


@pytest.fixture(scope="module")
def native_wheel(dist: Path) -> Path:
    if native.loaded_core().module is None:
        pytest.skip("no native core is built here")
    (wheel,) = dist.glob("sleeptools-*-manylinux*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels of what scoring needs, so that the installation reads no index."""
    folder = ROOT / "build/wheelhouse"
    ready = folder / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    if not ready.exists():
        words = [sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:"]
        run([*words, "-r", REQUIREMENTS, "-d", folder])
        ready.touch()
    return folder


@pytest.fixture(scope="module")
def no_compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the system's programs without those that compile."""
    tools = tmp_path_factory.mktemp("bin")
    for path in Path("/usr/bin").iterdir():
        if not path.name.startswith(COMPILERS):
            (tools / path.name).symlink_to(path)
    assert not any(shutil.which(name, path=str(tools)) for name in COMPILERS)
    return tools


@pytest.fixture(scope="module")
def scoring_machine(
    native_wheel: Path, wheels: Path, no_compiler: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """An environment as the README makes it for scoring, and the CPU's seconds that it took."""
    begun = busy_seconds()
    folder = tmp_path_factory.mktemp("machine")
    run([sys.executable, "-m", "venv", folder])
    pip = [
        folder / "bin/pip",
        "install",
        "-q",
        "--no-index",
        "--find-links",
        wheels,
        "--no-compile",
    ]
    environment = {"PATH": f"{folder / 'bin'}:{no_compiler}"}
    run([*pip, "--no-deps", native_wheel], env=environment)
    run([*pip, "-r", REQUIREMENTS], env=environment)
    return folder, busy_seconds() - begun


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file but the manifest, which names versions, paths and times."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != "manifest.json" and path.is_file()
    }


@pytest.mark.slow
def test_the_chain_runs_without_compiler_and_torch(
    scoring_machine: tuple[Path, float], no_compiler: Path, tmp_path: Path
) -> None:
    machine, seconds = scoring_machine
    save_preset_model(tmp_path / "model", presets.load("sleep-edf"), "mmasleepnet")
    shutil.copytree(ARCHIVE / "run-1", tmp_path / "run")
    environment = {"PATH": f"{machine / 'bin'}:{no_compiler}", "OMP_NUM_THREADS": "1"}
    begun = busy_seconds()
    printed = run(["bash", "-ec", CHAIN], cwd=tmp_path, env=environment)
    seconds += busy_seconds() - begun
    print(f"from an empty environment to an evaluation: {seconds:.0f} s of a CPU")
    assert seconds < LONGEST
    assert "kappa" in printed
    check = subprocess.run(
        [machine / "bin/pip", "check"], capture_output=True, text=True, check=False
    )
    assert re.fullmatch(
        r"sleeptools \S+ requires torch, which is not installed\.", check.stdout.strip()
    )
    version = run(["sleeptools", "--version"], env=environment)
    assert f"native: {native.variants()[-1]}" in version
    here = [sys.executable, "-m", "sleeptools.cli", "score"]  # from source, with torch
    night = tmp_path / "raw/SC4001E0-PSG.edf"
    for model, scores in (("default", "scores"), ("model", "scored")):
        words = [*here, model, night, "--out", "again/" + scores]
        run(words, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
        first, second = hashes(tmp_path / scores), hashes(tmp_path / "again" / scores)
        if model == "default":  # its page names the folder in which the package lies
            del first[f"{night.stem}.html"], second[f"{night.stem}.html"]
        assert len(first) >= 4
        assert first == second


@pytest.mark.slow
def test_what_needs_torch_names_the_line_to_type(
    scoring_machine: tuple[Path, float], no_compiler: Path, tmp_path: Path
) -> None:
    machine, _ = scoring_machine
    environment = {"PATH": f"{machine / 'bin'}:{no_compiler}"}
    preset = presets.load("sleep-edf")
    save_preset_model(tmp_path / "ulw", preset)
    reduced = {"se_reduction": 2}  # one of the paper's variants that the core has no kernels for
    save_preset_model(tmp_path / "reduced", preset, "mmasleepnet", reduced)
    run(
        ["sleeptools", "simulate", "sleep-edf", "raw", "--subjects", "2", "--hours", "0.5"],
        cwd=tmp_path,
        env=environment,
    )
    run(["sleeptools", "preprocess", "sleep-edf", "raw"], cwd=tmp_path, env=environment)
    for line in (
        "train --folds 2",
        "train --folds 2 --plan",
        "train --from ulw --final --passes 1",
        "train --model spectral --final --passes 1",
        "export ulw x.onnx --format onnx",
        "export ulw x.pt2 --format pt2",
        "score reduced raw --out scores",
        "evaluate reduced --on epochs --out runs/test --allow-shared-subject-ids",
    ):
        done = subprocess.run(
            ["sleeptools", *line.split()],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("Traceback")) == (69, 0), (line, done.stderr)
        assert "[TORCH-NONE]\nhint: pip install 'torch>=2.6'\n" in done.stderr, line
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_one_openmp_runtime_beside_torch(native_wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    run([*pip, site, native_wheel])
    torch_folder = run([sys.executable, "-c", "import torch; print(torch.__path__[0])"]).strip()
    torch_site = str(Path(torch_folder).parent)
    paths = [str(site), sysconfig.get_path("purelib"), torch_site]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    where = set()
    for order in (("torch", "sleeptools._core"), ("sleeptools._core", "torch")):
        script = ONE_RUNTIME.format(first=order[0], second=order[1])
        # -S hides the editable installation
        out = run([sys.executable, "-S", "-P", "-c", script], env=environment, cwd=tmp_path)
        described, *runtimes = out.splitlines()
        assert described.startswith("native: "), out
        assert "off" not in described.split(",")[0], out
        assert len(runtimes) == 1, out
        where.add(runtimes[0])
    assert where == {str(site / "sleeptools/libgomp.so.1"), f"{torch_folder}/lib/libgomp.so.1"}


@pytest.mark.slow
def test_the_native_wheel_is_what_its_name_says(native_wheel: Path) -> None:
    shown = run([TOOLS / "auditwheel", "show", native_wheel])
    floor = re.search(r"manylinux_2_(\d+)_x86_64", native_wheel.name)
    assert floor, native_wheel.name
    assert f'"manylinux_2_{floor[1]}_x86_64"' in shown, shown
    names = zipfile.ZipFile(native_wheel).namelist()
    assert "sleeptools/libgomp.so.1" in names
    assert not [name for name in names if "cuda" in name.lower() and name.endswith(".so")]
    assert any(name.endswith("THIRD-PARTY.txt") for name in names)


@pytest.mark.slow
def test_the_pure_wheel_and_the_source_are_complete(dist: Path, tmp_path: Path) -> None:
    (pure,) = dist.glob("sleeptools-*-py3-none-any.whl")
    names = zipfile.ZipFile(pure).namelist()
    assert not [name for name in names if name.endswith((".so", ".cpp", ".cu"))]
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sleeptools").rglob("*")
        if path.suffix in {".py", ".toml", ".csv", ".json"}
    }
    assert modules <= set(names)
    (source,) = dist.glob("sleeptools-*.tar.gz")
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CMakeLists.txt", "csrc/bindings.cpp", "cli/score.py", "LICENSE"} <= inside
    # nothing but pip: the environment is empty, and what builds is fetched
    run([sys.executable, "-m", "venv", tmp_path / "empty"])
    pip = [tmp_path / "empty/bin/pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "built", source]
    run(pip, env=os.environ | {"SLEEPTOOLS_NATIVE": "0"})
    assert [p.name for p in (tmp_path / "built").iterdir()] == [pure.name]
