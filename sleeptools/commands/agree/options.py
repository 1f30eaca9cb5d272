"""How scorings are read and compared by `agree`."""

from __future__ import annotations

from dataclasses import dataclass

from sleeptools.errors import DataError, UsageError
from sleeptools.formats.parsing.stage_labels import check_epoch


@dataclass(frozen=True)
class AgreeOptions:
    """Settings of a comparison of scorings.

    Parameters
    ----------
    stages
        Groups of stages that count as one, as `stage_groups.parse_groups` reads them; "" if all
        scorings have the same stages.
    same_start
        Let scorings without a clock begin with the recording that the others are of.
    names
        Names of the scorings, in their order; by their files and folders if left out.
    scheme
        What numbers mean, for the scorings that have numbers without a meaning: a name in
        `label_schemes.SCHEMES`, or several as "SCORING=NAME".
    epoch_seconds
        Length of an epoch, s, for the scorings that do not tell it.
    scorer
        Whose rows to read where a file has those of several; all of them if left out.
    epoch_from_onsets, ignore_bad_annotations
        As of `formats.read_hypnogram`.
    """

    stages: str = ""
    same_start: bool = False
    names: tuple[str, ...] = ()
    scheme: tuple[str, ...] = ()
    epoch_seconds: float | None = None
    scorer: str | None = None
    epoch_from_onsets: bool = False
    ignore_bad_annotations: bool = False

    def __post_init__(self) -> None:
        """Refuse a length that no epoch has, also where no file needs it."""
        if self.epoch_seconds is not None:
            try:
                check_epoch(self.epoch_seconds, "`epoch_seconds`")
            except DataError as e:
                raise UsageError(str(e), code="USE-VALUE") from e

    def scheme_of(self, scoring: str) -> str | None:
        """Return the scheme for the scoring of that name, if one is given."""
        named = dict(entry.rsplit("=", 1) for entry in self.scheme if "=" in entry)
        common = [entry for entry in self.scheme if "=" not in entry]
        return named.get(scoring) or (common[0] if common else None)
