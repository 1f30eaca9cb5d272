"""A chain of tiny nights, the commands that work on it, and what is asked of a disturbed one.

A command writes below {out}, and reads below {source} what the commands before it wrote.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sleeptools import store
from sleeptools.runs.run import LAST_STATE
from tests.helpers import faults, http_server
from tests.helpers.faults import LINKED, Ended, FaultServer, Run

PASSING = {"created", "wall_seconds", "peak_memory_mib", "command", "environment"}
"""Facts of a manifest that tell of the moment and not of the work."""
WRITTEN = re.compile(rb"Written by sleeptools on [^<]*")
SECONDS = re.compile(rb",[0-9.]+,([01]?)$", re.M)
"""The columns seconds and selected of log.csv."""
TIMED = (".json", ".toml", "log.csv", "state.safetensors", LAST_STATE)
"""Files that may hold the time of a command that was disturbed, or its settings before an error."""
TRAIN = "--model ulw-sleepnet --folds 2 --passes 1"
HELD = 73  # exit code of a command that another one keeps out
SERVED = (
    "sleep-cassette/SC4001E0-PSG.edf",
    "sleep-cassette/SC4001EC-Hypnogram.edf",
    "SC-subjects.xls",
    "RECORDS",
)
"""What `fetch` fetches."""
Contents = dict[str, bytes | None]
Operation = tuple[int, str, str]
"""Number of the run, name of the operation, and path."""


def _nothing(out: Path, source: Path) -> None:
    pass


def _run(out: Path, source: Path) -> None:
    shutil.copytree(source / "run", out / "run")


def _evaluated(out: Path, source: Path) -> None:
    """Leave the evaluation of one fold in the run: all of its files are to be replaced."""
    shutil.copytree(source / "evaluated", out / "run")


def _converted(out: Path, source: Path) -> None:
    """Leave the recordings of shorter nights: each is to be made again."""
    shutil.copytree(source / "earlier recordings", out / "recordings")


def _scored(out: Path, source: Path) -> None:
    """Leave scores by other options, of more kinds: all of them are to be replaced."""
    shutil.copytree(source / "scores", out / "scores")


def _reported(out: Path, source: Path) -> None:
    shutil.copy(source / "report.html", out / "report.html")


def _exported(out: Path, source: Path) -> None:
    """Leave an export of another fold's model."""
    for path in source.glob("earlier.[ch]"):
        shutil.copy(path, out / path.name.replace("earlier", "net"))


@dataclass(frozen=True)
class Command:
    """A command line, and what lies in its folder beforehand."""

    line: str
    before: Callable[[Path, Path], None] = _nothing


COMMANDS = {
    "hypnogram": Command("hypnogram {source}/raw/SC4001EC-Hypnogram.edf {out}/SC4001_events.tsv"),
    "score": Command(
        "score {source}/run/leak-free/seed-0/fold-00 {source}/raw/SC4001E0-PSG.edf "
        "{source}/raw/SC4011E0-PSG.edf --out {out}/scores"
    ),
    "score again": Command(
        "score {source}/run/leak-free/seed-0/fold-00 {source}/raw/SC4001E0-PSG.edf "
        "--out {out}/scores --only edf --lights-off 60",
        _scored,
    ),
    "convert": Command("convert sleep-edf {source}/raw {out}/recordings"),
    "convert again": Command("convert sleep-edf {source}/raw {out}/recordings", _converted),
    "preprocess": Command("preprocess sleep-edf {source}/recordings {out}/epochs"),
    "evaluate": Command("evaluate {out}/run", _run),
    "evaluate again": Command("evaluate {out}/run", _evaluated),
    "report": Command("report {source}/run --out {out}/report.html"),
    "report again": Command("report {source}/run --out {out}/report.html", _reported),
    "tables": Command("report {source}/run --format csv --out {out}/tables"),
    "figures": Command("report {source}/run --format md --out {out}/a.md --figures {out}/figures"),
    "fetch": Command("fetch sleep-edf {out}/raw --base-url {url} --trust-sums --jobs 1"),
    "simulate": Command("simulate sleep-edf {out}/raw --subjects 2 --hours 0.5"),
    "export": Command("export {source}/run/leak-free/seed-0/fold-00 {out}/net.c --format c"),
    "export again": Command(
        "export {source}/run/leak-free/seed-0/fold-00 {out}/net.c --format c --force", _exported
    ),
    "train": Command("train {source}/epochs {out}/run " + TRAIN),
}


@dataclass
class Chain:
    """The commands at work.

    Parameters
    ----------
    server
        Runs them.
    source
        What they read; made if it is empty.
    out
        Folder that each writes to, made anew each time.
    url
        Server that `fetch` reads from.
    """

    server: FaultServer
    source: Path
    out: Path
    url: str = ""
    complete: dict[str, tuple[Ended, Contents]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.source.exists():
            self._make_source()

    def _make_source(self) -> None:
        source = self.source
        source.mkdir()
        for line in (
            "simulate sleep-edf {0}/raw --subjects 2 --hours 0.6",
            "convert sleep-edf {0}/raw {0}/recordings",
            "preprocess sleep-edf {0}/recordings {0}/epochs",
            "train {0}/epochs {0}/run " + TRAIN,
            "report {0}/run --out {0}/report.html",
            "score {0}/run/leak-free/seed-0/fold-00 {0}/raw/SC4001E0-PSG.edf --out {0}/scores",
            "simulate sleep-edf {0}/earlier --subjects 2 --hours 0.5",
            "convert sleep-edf {0}/earlier {0}/earlier-recordings",
            "export {0}/run/leak-free/seed-0/fold-01 {0}/earlier.c --format c",
        ):
            self._succeed(line.format(source).split(), source)
        (source / "earlier-recordings").rename(source / "earlier recordings")
        run = shutil.copytree(source / "run", source / "evaluated")
        predictions = Path(run, "leak-free/seed-0/fold-01/predictions.parquet")
        aside = predictions.rename(source / "aside")
        self._succeed(["evaluate", str(run), "--partial"], source)
        aside.rename(predictions)

    def _succeed(self, words: Sequence[str], below: Path) -> Ended:
        ended = self.server.run(Run(words, str(below)))
        assert ended.code == 0, ended.text
        return ended

    def words(self, name: str) -> list[str]:
        """Give the words of a command line."""
        places = {"out": self.out, "source": self.source, "url": self.url}
        return [word.format(**places) for word in COMMANDS[name].line.split()]

    def prepare(self, name: str) -> Contents:
        """Make the folder as it is before a command; return what lies there."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        COMMANDS[name].before(self.out, self.source)
        return contents(self.out)

    def undisturbed(self, name: str) -> tuple[Ended, Contents]:
        """Run a command without a fault, once; how it ended, and what it wrote."""
        if name not in self.complete:
            self.prepare(name)
            ended = self._succeed(self.words(name), self.out)
            assert len(ended.operations) > 5
            self.complete[name] = ended, contents(self.out)
        return self.complete[name]

    def check_fault(self, name: str, at: int, mode: int, error: int) -> None:
        """Run a command with a fault at an operation, look at what it left, and run it again."""
        complete = self.undisturbed(name)[1]
        before = self.prepare(name)
        ended = self.server.run(Run(self.words(name), str(self.out), at, mode, error))
        left = contents(self.out)
        case = (name, at, mode, error, ended.operations[at - 1 :][:1], ended.code, ended.text)
        assert "Traceback" not in ended.text, case
        assert before.keys() - left.keys() <= before.keys() - complete.keys(), case
        if mode == faults.KILL:
            assert ended.code == faults.KILLED, case
        elif mode == faults.SHORT:
            assert ended.code == 0, case
        else:
            assert ended.code in {0, 74}, case
            assert not [n for n in left if Path(n).name.startswith(".")], (case, sorted(left))
        if ended.code == 0:
            assert left == complete, case
        for file, content in left.items():
            if not (Path(file).name.startswith(".") or file.endswith((*TIMED, ".part"))):
                assert content in (before.get(file), complete.get(file)), (case, file)
        self.check_again(name, case)

    def check_again(self, name: str, case: object) -> None:
        """Run a command to its end over what a disturbed one left."""
        again = self.server.run(Run(self.words(name), str(self.out)))
        assert again.code == 0, (case, again.text)
        self.check_complete(name, case)

    def check_complete(self, name: str, case: object) -> None:
        """Compare what lies there with what an undisturbed command writes."""
        complete, now = self.undisturbed(name)[1], contents(self.out)
        paths = sorted(now.keys() | complete.keys())
        different = [n for n in paths if now.get(n, b"-") != complete.get(n, b"-")]
        assert not different, (case, different)

    def check_race(self, name: str, first: Run, second: Run) -> list[int]:
        """Run a command twice at once: one writer at a time, and the outcome is right.

        `first` and `second` have the operations and moments; return the exit codes.
        """
        self.prepare(name)
        words = self.words(name)
        runs = [replace(run, words=words, below=str(self.out)) for run in (first, second)]
        ended, operations = self.server.race(runs)
        codes = [e.code for e in ended]
        case = (name, first, second, codes, [e.text for e in ended])
        assert sorted(codes) in ([0, 0], [0, HELD]), case
        check_writers(operations)
        self.check_complete(name, case)
        return codes


def check_writers(operations: Sequence[Operation]) -> None:
    """Check that what is written is locked by its writer, and that no lock has two holders."""
    holders: dict[str, int] = {}
    for run, name, path in operations:
        if path.endswith("lock"):
            if name == LINKED:
                assert path not in holders, (run, path, holders)
                holders[path] = run
            elif name == "unlink":
                assert holders.pop(path, run) == run, (run, path)
        elif name in {"write", "rename", "unlink"} and "lock." not in path:
            held = {lock for lock, holder in holders.items() if holder == run}
            assert held & _locks_of(path), (run, name, path, holders)


def _locks_of(path: str) -> set[str]:
    """List the locks of which each allows to write a file: its own, or that of a folder above."""
    name = re.sub(r"^\.(.+)\.[0-9]+-[0-9a-f]{8}\.part$", r"\1", Path(path).name)
    folders = [Path(path), *Path(path).parents]
    own = {str(Path(path).with_name(f".{name}.lock"))}
    return own | {str(folder / ".lock") for folder in folders}


def contents(folder: Path) -> Contents:
    """Content by path of all that lies in a folder, None of folders, without what tells the time.

    Hidden files are among it: locks and unfinished files would be left over.
    """
    paths = {str(p.relative_to(folder)): p for p in folder.rglob("*")}
    return {name: None if p.is_dir() else _comparable(p) for name, p in sorted(paths.items())}


def _comparable(path: Path) -> bytes:
    content = path.read_bytes()
    match path.name:
        case "manifest.json":
            return json.dumps(_lasting(json.loads(content)), sort_keys=True).encode()
        case "report.html" | "a.md":
            return WRITTEN.sub(b"", content)
        case "log.csv":
            return SECONDS.sub(rb",\1", content)
        case name if name == LAST_STATE:
            file = store.read_tensors(path)
            untimed = {"step", "best_pass", "audit"}
            facts = {k: v for k, v in file.facts.items() if k in untimed}
            return store.digest(file.arrays, facts).encode()
    return content


def _lasting(facts: Mapping[str, object]) -> dict[str, object]:
    kept = {k: v for k, v in facts.items() if k not in PASSING}
    if isinstance(files := kept.get("files"), dict):
        timed = ("log.csv", LAST_STATE)
        kept["files"] = {n: "" if n.endswith(timed) else s for n, s in files.items()}
    return kept


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve a small data set for `fetch`; give its address."""
    with http_server.serving() as served:
        for number, name in enumerate(SERVED):
            served.files[name] = bytes([number]) * (90_000 if "PSG" in name else 900)
        served.list_sums()
        yield served.url
