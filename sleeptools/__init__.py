"""Automatic sleep staging: the library behind the `sleeptools` command.

docs/api.md shows what is bound here, each when it is first used, so that `import sleeptools` costs
nothing and never imports torch.
"""

from importlib import import_module

_PLACES = {
    "Engine": "inference.engine.Engine",
    "Hypnogram": "recording.hypnogram.Hypnogram",
    "Recording": "recording.recording.Recording",
    "Scoring": "commands.score.scoring.Scoring",
    "agree": "commands.agree.agree",
    "from_mne": "recording.mne.from_mne",
    "plot": "report.hypnogram_figure.plot",
    "read": "formats.read_any",
    "read_hypnogram": "formats.read_hypnogram",
    "score": "commands.score.one.score_one",
    "statistics": "commands.score.sleep_table.statistics",
    "to_mne": "recording.mne.to_mne",
    "write_hypnogram": "formats.write_hypnogram",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("sleeptools")
    if name not in _PLACES:
        raise AttributeError(f"module 'sleeptools' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].rpartition(".")
    value = getattr(import_module(f"sleeptools.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
