"""Which signals of a recording a model takes for its channels: by name, as said, or by order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sleeptools.errors import DataError, UsageError, did_you_mean
from sleeptools.recording import montage
from sleeptools.recording.montage import MontageChannel
from sleeptools.recording.recording import Recording

SAID, BY_ORDER = "as said", "by order"


@dataclass(frozen=True)
class ChosenMontage:
    """The montage of a model on one recording.

    Parameters
    ----------
    channels
        As the model's, each with the signals that were chosen for it.
    made_of
        What each channel is made of, by name.
    substitutes
        Channels that were not chosen by their names, and how they were chosen instead.
    """

    channels: tuple[MontageChannel, ...]
    made_of: dict[str, str]
    substitutes: dict[str, str]


def check_names(channels: Sequence[MontageChannel], assigned: Mapping[str, str]) -> None:
    """Check that what is said of channels is said of a model's.

    Raises
    ------
    UsageError
        If the model has no channel of a name.
    """
    names = [channel.name for channel in channels]
    for name, source in assigned.items():
        if name not in names:
            example = f"the model's name comes first: `channels={names[0]}={source}`"
            raise UsageError(
                f"the model has no channel {name!r}; there are: {', '.join(names)}",
                hint=did_you_mean(name, names) or example,
                code="USE-NAME",
            )


def choose_montage(
    recording: Recording,
    channels: Sequence[MontageChannel],
    assigned: Mapping[str, str],
    *,
    by_order: bool = False,
    dispensable: Collection[str] = (),
    optional: Collection[str] = (),
) -> ChosenMontage:
    """Choose the signals of a recording for a model's channels.

    Parameters
    ----------
    assigned
        Label, name or pair of electrodes for some of the channels.
    by_order
        For a channel that is not there, take the first signal of its modality that is left.
    dispensable
        Modalities that the model can do without, for the hint.
    optional
        Channels that the model can do without, which are then left out.

    Raises
    ------
    DataError
        If a channel cannot be had; the hint tells how another signal can serve as it.
    """
    matches: dict[str, montage.Match] = {}
    substitutes: dict[str, str] = {}
    lacking: dict[str, DataError] = {}
    for channel in channels:
        name = channel.name
        source = MontageChannel(name, (assigned[name],)) if name in assigned else channel
        try:
            matches[name] = montage.match(recording, source)
            if name in assigned and str(matches[name]) != name:
                substitutes[name] = SAID
        except DataError as e:
            lacking[name] = e
    if by_order:
        for name in [n for n in lacking if n not in assigned]:
            used = {label for match in matches.values() for label, _ in match.terms}
            if label := _next_of_modality(recording, name, used):
                matches[name] = montage.Match(name, ((label, 1.0),))
                substitutes[name] = BY_ORDER
                del lacking[name]
    for name in [n for n in lacking if n in optional and n not in assigned]:
        del lacking[name]
        channels = [channel for channel in channels if channel.name != name]
    if lacking:
        name, error = next(iter(lacking.items()))
        hint = _cure(recording, name, error)
        if montage.modality(name) in dispensable:
            hint += f"; `without={montage.modality(name)}` scores without, as the model has learnt"
        raise DataError(str(error), hint=hint, code=error.code)
    chosen = []
    for channel in channels:
        label = matches[channel.name].terms[0][0]
        substitute = assigned.get(channel.name) or (label if channel.name in substitutes else "")
        chosen.append(MontageChannel(channel.name, (substitute,)) if substitute else channel)
    made_of = {channel.name: str(matches[channel.name]) for channel in channels}
    return ChosenMontage(tuple(chosen), made_of, substitutes)


def _next_of_modality(recording: Recording, name: str, used_labels: set[str]) -> str:
    """Return the first signal of a channel's modality that no other channel takes; "" if none."""
    wanted = montage.modality(name)
    free = (s.label for s in recording.signals.values() if s.modality == wanted)
    return next((label for label in free if label not in used_labels), "")


def _cure(recording: Recording, name: str, error: DataError) -> str:
    """Say how another signal can serve as a channel."""
    label = _next_of_modality(recording, name, set())
    example = f"; `channels={name}={label}` takes it, and says so" if label else ""
    kind = montage.modality(name)
    if kind != "other" and kind not in {s.modality for s in recording.signals.values()}:
        example = f"; the model needs an {kind.upper()}"
    return f"{error.hint or ''}{example}"
