"""Time training and scoring on a GPU, each row beside its error against the CPU in float64.

`python benches/gpu.py` writes benches/results/gpu.json and gpu.md. A finished row is kept and
skipped next time, as long as device, torch and commit are the same; `--device cpu` tries
everything but CUDA itself. It ends with 1 where a row failed or is wrong, and with 75 where its
time was over: the same command goes on. `make gpu` runs it after the tests (docs/cuda.md).
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from instruments import material, provenance, timing
from instruments.device_steps import INFERENCE, TRAINING, Setup
from sleeptools import native, registry, store
from sleeptools.native.devices import runs_kernels
from sleeptools.training.device import float32_products

RESULTS = Path(__file__).parent / "results"
PRECISIONS = ("fp32", "tf32", "bf16")
BATCHES = [128, 256, 1024]
INFERENCE_BATCH = 1024
FOLDS = 20
TURNS = 5
CHECKED = 16  # inputs that an error is computed from
ALLOWED = {"fp32": 1e-2, "tf32": 1e-1, "bf16": 5e-1}  # error of a gradient or of logits
MATRIX = {"cuda": 8192, "cpu": 512}  # rows of the products that give the limit
COPIED = {"cuda": 2**30, "cpu": 2**24}  # bytes
AGAIN = 75  # exit code: run the same command again
NOT_RUN = (
    "**Not run on a GPU yet**: there are no rows. `make gpu` on a machine that has one fills this "
    "table ([docs/cuda.md](../../docs/cuda.md))."
)
DRY = (
    "**Dry run on a CPU**: it shows that the bench works, and nothing about a GPU. **Not run on a "
    "GPU yet.**"
)
warnings.filterwarnings("ignore", module="torch")  # about operations that vmap has no rule for


class Case(NamedTuple):
    """A row: "limit", "op", "training" or "inference"; batch 0 where there is none."""

    kind: str
    contender: str
    precision: str
    batch: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", default="mmasleepnet")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--inference-batch", type=int, default=INFERENCE_BATCH)
    parser.add_argument("--folds", type=int, default=FOLDS, help="trainings that are stacked")
    parser.add_argument("--seconds", type=float, default=2.0, help="that a row is timed for")
    parser.add_argument("--minutes", type=float, default=18.0, help="after which no row is begun")
    parser.add_argument("--again", action="store_true", help="also rows that failed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"error: no CUDA device is available to PyTorch {torch.__version__}")
    if options.device == "cuda":
        torch.backends.cudnn.benchmark = True
    bench = Bench(options)
    for case in bench.cases():
        if case in bench.rows and not (options.again and "failed" in bench.rows[case]):
            continue
        if time.monotonic() - bench.begun > 60 * options.minutes:
            print("the time is over: run the same command again")
            sys.exit(AGAIN)
        bench.add(case)
        if "CUDA error" in bench.rows[case].get("failed", ""):  # the process can use CUDA no more
            words = [word for word in sys.argv if word != "--again"]
            os.execv(sys.executable, [sys.executable, *words])
    bad = [case for case, row in bench.rows.items() if "failed" in row or row.get("wrong")]
    sys.exit(f"error: {len(bad)} rows failed or are wrong: {bad}" if bad else 0)


class Bench:
    """The rows so far, and how one more is made."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.begun = time.monotonic()
        self.device = torch.device(options.device, 0 if options.device == "cuda" else None)
        self.facts = facts(options, self.device)
        self.file = options.out / "gpu.json"
        self.rows = kept_rows(self.file, self.facts)
        self.network = material.model(options.model)
        self.flops = {
            "training": material.flops(self.network, backward=True),
            "inference": material.flops(self.network),
        }

    def cases(self) -> Iterator[Case]:
        """List the rows in the order of their worth, limits first: the others are set in them."""
        yield from (Case("limit", "matrix product", p, 0) for p in self.precisions())
        yield Case("limit", "copy", "", 0)
        yield from (Case("op", name, "fp32", 0) for name in registry.names("ops"))
        for batch in self.options.batches:
            for precision in self.precisions():
                yield from (Case("training", name, precision, batch) for name in TRAINING)
        for precision in self.precisions():
            batch = self.options.inference_batch
            yield from (Case("inference", name, precision, batch) for name in INFERENCE)

    def precisions(self) -> list[str]:
        """List the precisions of the device."""
        return [p for p in PRECISIONS if p != "tf32" or self.device.type == "cuda"]

    def add(self, case: Case) -> None:
        """Make a row, print it and write all."""
        row = case._asdict()
        try:
            with float32_products("tf32" if case.precision == "tf32" else "fp32", self.device):
                row |= self.measured(case)
        except timing.AbsentError as error:
            row["absent"] = str(error)
        except torch.OutOfMemoryError:
            row["absent"] = "out of memory"
        except Exception as error:  # the other rows are worth having
            row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        self.rows[case] = row
        print(f"{time.monotonic() - self.begun:6.0f} s  {' | '.join(cells(row))}", flush=True)
        report = {"facts": self.facts, "flops": self.flops, "rows": list(self.rows.values())}
        store.write_json(self.file, report)
        store.write_text(self.file.with_suffix(".md"), markdown(report))

    def measured(self, case: Case) -> dict[str, Any]:
        """Measure a row."""
        if case.kind == "limit":
            return limit(case, self.device)
        if case.kind == "op":
            return op_error(case.contender, self.device)
        make = (TRAINING if case.kind == "training" else INFERENCE)[case.contender]
        error = self.error(case, make)
        empty_memory(self.device)
        work = make(self.setup(self.network, case.batch, case.precision, rate=1e-4))
        seconds = timed(work.run, self.device, self.options.seconds)
        per_second = work.inputs / statistics.median(seconds)
        speeds = {row["precision"]: row["per_second"] for row in self.of_kind("limit")}
        floats = self.flops[case.kind] * per_second
        return {
            "ms": 1e3 * statistics.median(seconds),
            "per_second": per_second,
            "spread": (max(seconds) - min(seconds)) / statistics.median(seconds),
            "of_arithmetic": floats / speeds[case.precision] if case.precision in speeds else None,
            "of_memory": self.touched(case.kind) * per_second / speeds[""]
            if "" in speeds
            else None,
            "peak_bytes": peak_memory(self.device),
            "error": error,
            "wrong": not error < ALLOWED[case.precision],
        }

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Give the finished rows of a kind."""
        return [r for r in self.rows.values() if r["kind"] == kind and "per_second" in r]

    def setup(self, network: nn.Module, batch: int, precision: str, *, rate: float) -> Setup:
        """Put a model and its inputs onto the device."""
        recipe = registry.load("models", self.options.model).RECIPE
        x = torch.from_numpy(material.epochs(min(batch, 128), network)).to(self.device)
        x = x.repeat(-(-batch // len(x)), *[1] * (x.dim() - 1))[:batch].contiguous()
        count = network.config.input_span.sequence
        stages = torch.arange(batch * max(1, count), device=self.device) % network.config.stages
        weights = torch.tensor(recipe.class_weights, device=self.device)
        moved = copy.deepcopy(network).to(self.device)
        weighted = weights if len(weights) else None
        folds = self.options.folds
        return Setup(moved, x, stages, weighted, recipe, precision, rate, folds)

    def error(self, case: Case, make: Callable[[Setup], Any]) -> float:
        """Length of the difference from double precision on the CPU, relative to its length."""
        network = material.without_dropout(self.network)
        work = make(self.setup(network, CHECKED, case.precision, rate=0.0)._replace(folds=2))
        work.run()
        result = work.result().double().cpu()
        expected = self.expected(case.kind)
        return float((result - expected).norm() / expected.norm())

    def expected(self, kind: str) -> Tensor:
        """Gradients or logits in double precision on the CPU."""
        if kind not in self._expected:
            device, self.device = self.device, torch.device("cpu")
            setup = self.setup(material.without_dropout(self.network), CHECKED, "fp32", rate=0.0)
            self.device = device
            weights = None if setup.weights is None else setup.weights.double()
            setup = setup._replace(
                network=setup.network.double(), x=setup.x.double(), weights=weights
            )
            work = (TRAINING if kind == "training" else INFERENCE)["PyTorch eager"](setup)
            work.run()
            self._expected[kind] = work.result().double()
        return self._expected[kind]

    def touched(self, kind: str) -> float:
        """Bytes that PyTorch's operations read and write for an input, without the optimiser."""
        if kind not in self._touched:
            network = copy.deepcopy(self.network).train(kind == "training")
            x = torch.from_numpy(material.epochs(CHECKED, network))
            with (
                native.using_variant("reference"),
                torch.set_grad_enabled(kind == "training"),
                TouchedBytes() as count,
            ):
                logits = network(x)
                if kind == "training":
                    logits.sum().backward()
            self._touched[kind] = count.total / CHECKED
        return self._touched[kind]

    _expected: dict[str, Tensor] = {}  # noqa: RUF012 - there is one bench in a process
    _touched: dict[str, float] = {}  # noqa: RUF012


class TouchedBytes(TorchDispatchMode):
    """Adds up the sizes of what every operation reads and writes; a view touches nothing."""

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        results = function(*args, **(kwargs or {}))
        read = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        written = [t for t in tree_leaves(results) if isinstance(t, Tensor)]
        places = {t.untyped_storage().data_ptr() for t in read}
        is_view = all(t.untyped_storage().data_ptr() in places for t in written)
        if not is_view or function._schema.is_mutable:
            self.total += sum(t.numel() * t.element_size() for t in [*read, *written])
        return results


def limit(case: Case, device: torch.device) -> dict[str, Any]:
    """Measure what the device reaches at best: operations, or bytes copied, a second."""
    if case.contender == "copy":
        source = torch.zeros(COPIED[device.type], dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        seconds = timed(lambda: target.copy_(source), device, 0.5)
        return {"per_second": 2 * source.numel() / statistics.median(seconds)}
    size = MATRIX[device.type]
    kind = torch.bfloat16 if case.precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    seconds = timed(lambda: a @ b, device, 0.5)
    return {"per_second": 2 * size**3 / statistics.median(seconds)}


def op_error(name: str, device: torch.device) -> dict[str, Any]:
    """Compare an op with its reference on the CPU: the largest difference, and if it is wrong."""
    op = registry.load("ops", name)
    function = getattr(op, name.replace("-", "_"))
    variant = native.variants()[-1]
    with native.using_variant(variant):
        if variant == "reference" or (device.type == "cuda" and not runs_kernels(device.index)):
            raise timing.AbsentError(native.describe())
        pairs = []
        for example in op.examples("cpu"):
            moved = [a.to(device) if isinstance(a, Tensor) else a for a in example]
            expected = op.reference(*example)
            result = function(*moved)
            several = isinstance(expected, tuple)
            pairs += zip(*[(e if several else [e]) for e in (result, expected)], strict=True)
    pairs = [(ours.detach().cpu(), theirs.detach()) for ours, theirs in pairs]
    near = all(
        torch.allclose(ours, theirs, **op.TOLERANCE, equal_nan=True) for ours, theirs in pairs
    )
    largest = max(float((a - b).abs().max()) for a, b in pairs if a.numel())
    return {"error": largest, "wrong": not near}


def timed(run: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Time a call in several turns that take so many seconds together: s of a call in each."""

    def turn(calls: int) -> float:
        wait(device)
        begun = time.perf_counter()
        for _ in range(calls):
            run()
        wait(device)
        return (time.perf_counter() - begun) / calls

    turn(2)
    calls = max(1, round(seconds / TURNS / turn(1)))
    return [turn(calls) for _ in range(TURNS)]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def empty_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def facts(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """List what a reader needs to judge a row."""
    general = provenance.facts("torch", "numpy")
    general |= {"model": options.model, "folds": options.folds, "native": native.describe()}
    if device.type == "cpu":
        return general | {"device": "cpu"}
    card = torch.cuda.get_device_properties(device)
    return general | {
        "device": card.name,
        "memory_gib": round(card.total_memory / 2**30, 1),
        "capability": f"{card.major}.{card.minor}",
        "cuda": torch.version.cuda,
    }


def kept_rows(file: Path, facts: dict[str, Any]) -> dict[Case, dict[str, Any]]:
    """Read the rows of before, if they were made on the same device by the same code."""
    if not file.exists():
        return {}
    report = store.read_json(file)
    if not report["rows"]:
        return {}

    def identity(facts: dict[str, Any]) -> list[str]:
        commit = facts["commit"].removesuffix("-dirty")
        return [facts["device"], facts["libraries"]["torch"], facts["model"], commit]

    if identity(report["facts"]) != identity(facts):
        print(f"{file}: rows of another device, torch, model or commit: all are made anew")
        return {}
    return {Case(*[row[name] for name in Case._fields]): row for row in report["rows"]}


# --- the table ------------------------------------------------------------------------------------


def markdown(report: dict[str, Any]) -> str:
    if not report["rows"]:
        return "\n".join(["# On a GPU", "", NOT_RUN, ""])
    facts, flops = report["facts"], report["flops"]
    on_cpu = facts["device"] == "cpu"
    card = "" if on_cpu else f", {facts['memory_gib']} GiB, CUDA {facts['cuda']}"
    lines = [
        f"# On a GPU: {facts['model']}",
        "",
        *([DRY, ""] if on_cpu else []),
        f"{facts['device']}{card}; {facts['native']}. {provenance.describe(facts)}",
        "",
        f"Medians of {TURNS} turns. A training step is forward, loss, backward and optimiser, "
        f"{flops['training'] / 1e6:.0f} MFLOP an epoch, with its data on the device; stacked ones "
        f"are {facts['folds']} trainings at once, each with the batch; scoring, "
        f"{flops['inference'] / 1e6:.0f} MFLOP. Of arithmetic: of what a large matrix product "
        "reaches in the same precision here. Of memory: bytes that PyTorch's operations would read "
        "and write, against a copy's; more than 100 % means that fused ones touch less. Error: of "
        f"the gradient without dropout, or of the logits, of {CHECKED} inputs against double "
        "precision on the CPU, relative to its length; of an op, its largest difference.",
    ]
    for kind, head in HEADS.items():
        rows = [cells(row)[1:] for row in report["rows"] if row["kind"] == kind]
        if rows:
            lines += ["", f"## {TITLES[kind]}", "", *timing.table(head, rows)]
    return "\n".join([*lines, ""])


TITLES = {
    "limit": "Limits of the device",
    "op": "Ops against their reference",
    "training": "Training step",
    "inference": "Scoring",
}
STEP = ["", "", "batch", "ms", "epochs/s", "of arithmetic", "of memory", "peak GiB", "error"]
HEADS = {
    "limit": ["", "", "a second"],
    "op": ["op", "", "error"],
    "training": STEP,
    "inference": STEP,
}


def cells(row: dict[str, Any]) -> list[str]:
    """Write a row as cells, its kind first."""
    start = [row["kind"], row["contender"], row["precision"]]
    start += [str(row["batch"])] if row["batch"] else []
    if text := row.get("absent") or row.get("failed"):
        empty = len(HEADS[row["kind"]]) - len(start)
        return [*start, f"{'**failed**: ' * ('failed' in row)}{text}", *[""] * empty]
    error = f"{row['error']:.1e}{' **wrong**' * row['wrong']}" if "error" in row else ""
    if row["kind"] == "limit":
        unit = "TB" if row["contender"] == "copy" else "TFLOP"
        return [*start, f"{row['per_second'] / 1e12:.3g} {unit}"]
    if row["kind"] == "op":
        return [*start, error]
    peak = row["peak_bytes"]
    return [
        *start,
        f"{row['ms']:.3g}",
        f"{row['per_second']:.0f}",
        timing.percent(row["of_arithmetic"]),
        timing.percent(row["of_memory"]),
        "-" if peak is None else f"{peak / 2**30:.2f}",
        error,
    ]


if __name__ == "__main__":
    main()
