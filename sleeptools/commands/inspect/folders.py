"""The nights of a folder, by the data sets whose files it holds, with totals and what is left over.

A folder of no data set is described file by file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from sleeptools import datasets, formats, registry, store
from sleeptools.commands.inspect.nights import (
    Described,
    Facts,
    describe_file,
    describe_night,
    describe_recording,
    empty_facts,
    unreadable,
)
from sleeptools.commands.score.folder import SCORES_KIND, is_scores_folder, read_scores
from sleeptools.datasets import RecordingFiles
from sleeptools.datasets.shared.unmatched import ENDINGS, unmatched
from sleeptools.errors import (
    MissingInputError,
    NoRecordingsError,
    SleeptoolsError,
    UsageError,
)
from sleeptools.preprocessing import presets
from sleeptools.recording.recording import RECORDINGS_KIND
from sleeptools.recording.stages import REASONS
from sleeptools.store import batch, workers

OTHER_ENDINGS: Final = (".safetensors", ".mat", "hz.txt", "sco.txt")
"""Endings of files to inspect, beside those that mean signals or a scoring in every folder."""
INSPECTED: Final = ("recordings", "scores", "simulated")
"""Folders of ours that hold nights."""
Tasks = Mapping[str, Callable[[], Described]]


def files_to_inspect(paths: Sequence[Path]) -> list[Path]:
    """Replace every folder among the paths by the files below it that are signals or scorings.

    Raises
    ------
    MissingInputError
        If a folder has no such file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        store.refuse_own(path, INSPECTED, "recordings, scores or raw files")
        inside = unmatched(path, (), OTHER_ENDINGS)
        if not inside:
            raise MissingInputError(
                f"{path}: holds no file to inspect",
                hint=f"known: {', '.join(sorted((*ENDINGS, *OTHER_ENDINGS)))}, and texts that hold "
                "a scoring",
                code="FILE-NONE",
            )
        files += inside
    return files


def inspect_folder(
    folder: Path,
    preset: presets.Preset | None = None,
    on_progress: batch.OnProgress = batch.ignore,
    *,
    settings: formats.ReadSettings | None = None,
    ignore_channels: Sequence[str] = (),
    jobs: int = 1,
    log: Callable[[str], None] = lambda _: None,
) -> tuple[list[Facts], list[SleeptoolsError]]:
    """Describe the nights of a folder, by every data set whose files it holds.

    Parameters
    ----------
    folder
        Raw files of a data set, recordings that `convert` or scores that `score` wrote, or files
        of any known format.
    preset
        The preset to whose montage the signals are mapped; if left out, the data set's own, or the
        first one that fits.
    on_progress
        Called after every night.
    settings
        How scorings are read that belong to no data set.
    ignore_channels
        Labels of signals to leave out, as far as the nights have them.
    jobs
        Number of worker processes, each with one night at a time.
    log
        Called with a line for each data set that knows the folder's files and cannot use them.

    Returns
    -------
    descriptions
        For each data set: `path`, `kind` ("folder"), `data_set` (None without one), `nights`,
        `totals`, `unmatched` (files that belong to no night of any data set) and `absent`
        (recordings that the data set lists and the folder lacks). A night has `recording`,
        `subject`, `night`, `files`, `spans` (texts), `scorers`, `problems` (each with `text`,
        `cure` and `code`) and those of the facts of a file (`inspect`) that a night has.
    errors
        The error of every night that cannot be used.

    Raises
    ------
    MissingInputError
        If the folder holds no file to inspect.
    DataError
        If it has settings, edf.toml, that cannot be used, or is a folder of ours without nights:
        epochs, a run, a model.
    UsageError
        For `settings` where a data set reads the scorings.
    """
    store.refuse_own(folder, INSPECTED, "recordings, scores or raw files")
    if (folder / "index.parquet").exists():
        files = sorted(folder.glob("*.safetensors"))
        tasks = {p.stem: partial(describe_recording, p, preset, ignore_channels) for p in files}
        nights, errors = _run(tasks, on_progress, jobs)
        descriptions = [_described(folder, RECORDINGS_KIND, nights)]
    elif is_scores_folder(folder):
        tasks = {
            name: partial(describe_file, p, folder, preset, settings or {}, ignore_channels)
            for name, p in read_scores(folder)[1].items()
        }
        nights, errors = _run(tasks, on_progress, jobs)
        descriptions = [_described(folder, SCORES_KIND, nights)]
    elif sets := _data_sets(folder, ignore_channels, log):
        _refuse_settings(folder, sets, settings or {})
        descriptions, errors = _by_data_sets(folder, sets, preset, on_progress, jobs)
    else:
        tasks = {
            p.relative_to(folder).as_posix(): partial(
                describe_file, p, folder, preset, settings or {}, ignore_channels
            )
            for p in files_to_inspect([folder])
        }
        nights, errors = _run(tasks, on_progress, jobs)
        descriptions = [_described(folder, None, nights)]
    return descriptions, errors


def _data_sets(
    folder: Path, ignore_channels: Sequence[str], log: Callable[[str], None]
) -> dict[str, list[RecordingFiles]]:
    """Find the recordings of every data set whose file names the folder has."""
    sets = {}
    for name in registry.names("datasets"):
        module = registry.load("datasets", name)
        try:
            sets[name] = datasets.find_recordings(
                module, folder, ignore_unmatched=True, ignore_channels=ignore_channels
            )
        except (NoRecordingsError, MissingInputError):
            continue
        except SleeptoolsError as e:
            if hasattr(module, "SETTINGS"):  # a person wrote them for this folder
                raise
            log(f"{folder}: {name}: {e}" + (f" ({e.hint})" if e.hint else ""))
    return sets


def _refuse_settings(
    folder: Path, sets: Mapping[str, object], settings: formats.ReadSettings
) -> None:
    given = [name for name, value in settings.items() if value]
    if given:
        raise UsageError(
            f"{folder}: `{given[0]}` is for single files; the data set {next(iter(sets))} says how "
            "its scorings are read",
            hint="`details` describes every file by itself",
        )


def _by_data_sets(
    folder: Path,
    sets: Mapping[str, list[RecordingFiles]],
    preset: presets.Preset | None,
    on_progress: batch.OnProgress,
    jobs: int,
) -> tuple[list[Facts], list[SleeptoolsError]]:
    descriptions: list[Facts] = []
    errors: list[SleeptoolsError] = []
    owned = [f for sources in sets.values() for s in sources for f in s.files]
    for name, sources in sets.items():
        module = registry.load("datasets", name)
        tasks = {s.id: partial(describe_night, name, folder, s, preset) for s in sources}
        nights, failures = _run(tasks, on_progress, jobs)
        errors += failures
        free = [
            p.relative_to(folder).as_posix()
            for p in datasets.unmatched_files(module, folder, sources)
            if p not in owned
        ]
        absent = datasets.absent_recordings(module, folder, sources, None)
        descriptions.append(_described(folder, name, nights, free, absent))
    return descriptions, errors


def _run(
    tasks: Tasks, on_progress: batch.OnProgress, jobs: int
) -> tuple[list[Facts], list[SleeptoolsError]]:
    """Describe the nights, in their order; one that cannot be used has its facts all the same."""
    names = [*tasks]
    facts: dict[str, Facts] = {}
    errors: dict[str, SleeptoolsError] = {}
    batch.announce(on_progress, len(names))
    for count, (number, result) in enumerate(workers.run([*tasks.values()], jobs), start=1):
        name = names[number]
        if isinstance(result, Exception):
            errors[name] = failure = batch.failure_of(result, name)
            facts[name] = unreadable(empty_facts(name), failure)
        else:
            facts[name], error = result
            if error is not None:
                errors[name] = error
        on_progress(batch.FinishedItem(name, count, len(names), _line(facts[name]), name in errors))
    return [facts[n] for n in names], [errors[n] for n in names if n in errors]


def _line(facts: Facts) -> str:
    """Say in a line what a night is, or why it cannot be used."""
    if not facts["readable"]:
        return str(facts["problems"][0]["text"])
    spans = "; ".join(f"{noun} {span}" for noun, span in facts["spans"].items() if span)
    count = len(facts["problems"])
    return spans + (f"; {count} problem{'s' * (count != 1)}" if count else "")


def _described(
    folder: Path,
    data_set: str | None,
    nights: Sequence[Facts],
    free: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> Facts:
    return {
        "path": str(folder),
        "kind": "folder",
        "data_set": data_set,
        "nights": _noting_other_signals(nights) if data_set else [*nights],
        "totals": _totals(nights),
        "unmatched": [*free],
        "absent": [*absent],
    }


def _totals(nights: Sequence[Facts]) -> Facts:
    stages: Counter[str] = Counter()
    for night in nights:
        stages.update(night["stages"])
    return {
        "nights": len(nights),
        "subjects": len({n["subject"] for n in nights if n["subject"]}),
        "hours": round(sum(n["seconds"] for n in nights) / 3600, 4),
        "scored_epochs": sum(n for stage, n in stages.items() if stage not in REASONS),
        "stages": dict(stages),
        "readable": sum(n["readable"] for n in nights),
        "with_problems": sum(bool(n["problems"]) for n in nights),
    }


def _noting_other_signals(nights: Sequence[Facts]) -> list[Facts]:
    """Note where a night has other signals, or other rates, than most of the nights."""
    layouts = [frozenset((s["label"], s["sample_rate"]) for s in n["signals"]) for n in nights]
    count = Counter(layout for layout in layouts if layout)
    if len(count) < 2:  # noqa: PLR2004 - all alike
        return [*nights]
    usual = count.most_common(1)[0][0]
    return [
        night | {"notes": "; ".join(filter(None, [night["notes"], _difference(layout, usual)]))}
        for night, layout in zip(nights, layouts, strict=True)
    ]


def _difference(layout: frozenset[tuple[str, float]], usual: frozenset[tuple[str, float]]) -> str:
    if not layout or layout == usual:
        return ""
    lacking, further = (
        ", ".join(f"{label} at {rate:g} Hz" for label, rate in sorted(signals))
        for signals in (usual - layout, layout - usual)
    )
    texts = [f"lacks {lacking}" * bool(lacking), f"has {further}" * bool(further)]
    return f"unlike most nights it {' and '.join(filter(None, texts))}"
