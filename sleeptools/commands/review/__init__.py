"""`review`: a page on which a person looks at a night, corrects its stages and exports them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sleeptools import store
from sleeptools.commands.review.options import ReviewOptions
from sleeptools.commands.review.page_facts import page_facts
from sleeptools.commands.review.proposal import Proposal, check_grid, check_night, propose
from sleeptools.commands.review.shown_signals import check_gains, choose_signals, show
from sleeptools.datasets.shared.edf_settings import read_named, settings_of
from sleeptools.errors import OutputError
from sleeptools.formats.parsing.stage_words import stage_names
from sleeptools.formats.review import Review, plain_name, read_review
from sleeptools.recording.recording import Recording
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.report import review_page
from sleeptools.report.outputs import OTHER_HINT
from sleeptools.report.page_source import PageSource, find_source, page_source, refuse_other

__all__ = ["ReviewOptions", "review"]


def review(
    path: Path,
    out: Path,
    options: ReviewOptions | None = None,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the page of a night.

    Parameters
    ----------
    path
        The recording, of any known format.
    out
        The page to write; one of the same recording is replaced.
    log
        Called with what is not signals_shown, and why.

    Returns
    -------
    out
        The page that was written.

    Raises
    ------
    DataError
        If the recording is damaged, or scores or edits are of another night.
    OutputError
        If `out` is there and no page of this recording.
    """
    options = options or ReviewOptions()
    store.check_id(store.need(path, "recording").stem, path)
    with store.lock_file(out):
        store.check_listed(path)
        recording = replace(read_named(path), id=path.stem)
        source = page_source("recording", [path.stem], store.sha256(path))
        _check_out(out, source, force=options.force)
        page = _page(recording, path, source, options, log)
        with store.atomic_write(out) as file:
            file.write(page)
    return out


def _page(
    recording: Recording,
    path: Path,
    source: PageSource,
    options: ReviewOptions,
    log: Callable[[str], None],
) -> bytes:
    sha256 = store.sha256(path)
    names = settings_of(path).names
    options = options.called(names)
    proposal = propose(recording, path, sha256, options)
    night, remarks = _begin(proposal, recording, sha256, options)
    unit = options.assume_unit or proposal.assume_unit
    made_of = {channel: names.get(source, source) for channel, source in proposal.montage.items()}
    signals, lacking = choose_signals(recording, options.channels, made_of, unit)
    check_gains(options.gains, signals)
    mouse = night.hypnogram.names == MOUSE_STAGES
    drawn = [show(s, recording.seconds, mouse=mouse, gains=options.gains) for s in signals]
    notes = [*remarks, *lacking, *(s.note for s in drawn if s.note)]
    for note in notes:
        log(note)
    banners = _banners(recording, proposal, notes)
    packed = [s.packed.text for s in drawn]
    return review_page.page_bytes(page_facts(night, drawn), packed, banners, source)


def _check_out(out: Path, source: PageSource, *, force: bool) -> None:
    if not out.exists():
        return
    head = b""
    if out.is_file():
        with out.open("rb") as file:
            head = file.read(review_page.HEAD_BYTES)
    if review_page.MARK in head:
        if not force:
            text = head.decode("utf-16", errors="replace")
            refuse_other(out, find_source(text), source, hint=OTHER_HINT)
        return
    is_page = head.lstrip(b"\xff\xfe\xef\xbb\xbf \n").lower().startswith((b"<!doctype", b"<html"))
    if not (force and is_page):
        raise OutputError(
            f"{out}: exists and is no page that this command wrote",
            hint="`force` replaces it, or give another name with `out`"
            if is_page
            else "give another name with `out`",
            code="OUT-OURS",
        )


def _begin(
    proposal: Proposal, recording: Recording, sha256: str, options: ReviewOptions
) -> tuple[Review, list[str]]:
    """Return the review that the page begins with, and what is to be said of it."""
    fresh = proposal.as_review(recording.id, sha256, options.scorer)
    if options.edits is None:
        return fresh, []
    edits = read_review(store.need(options.edits, "exported review"))
    check_night(edits, recording.id, sha256, options.edits)
    check_grid(edits, fresh, recording, options.edits)
    notes = []
    if edits.recording != fresh.recording:
        notes.append(f"the edits call the recording {edits.recording}; its file is the same")
    if options.scores and stage_names(edits.proposed) != stage_names(fresh.proposed):
        notes.append(f"the edits were made on what {edits.model or 'nobody'} proposed, and keep it")
    begin = edits.hypnogram.begin or fresh.hypnogram.begin
    scorer = plain_name(options.scorer) or edits.hypnogram.scorer
    hypnogram = replace(edits.hypnogram, begin=begin, scorer=scorer)
    return replace(edits, recording=fresh.recording, hypnogram=hypnogram), notes


def _banners(recording: Recording, proposal: Proposal, notes: list[str]) -> list[tuple[str, str]]:
    banners = []
    if recording.facts.get("simulated"):
        banners.append(
            ("SIMULATED DATA", "This night comes from generated signals, not from a sleeper.")
        )
    return [*banners, *(("", text) for text in [*proposal.warnings, *notes])]
