"""The page on which a person corrects a night: one file with its signals, its edits and its code.

Its JavaScript is in the files here, in the order of `SCRIPTS`; nothing is fetched, ever. The page
is written in UTF-16, in which the packed signals take least room.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any, Final

import numpy as np

from sleeptools.recording.hypnogram import Stages
from sleeptools.recording.stages import REASONS, SCORED, UNKNOWN
from sleeptools.report import markup
from sleeptools.report.html import PURPOSE
from sleeptools.report.markup import Markup
from sleeptools.report.page_source import PageSource

SCRIPTS: Final = (
    *("signals.js", "filters.js", "review.js", "files.js"),
    *("channels.js", "drawing.js", "autosave.js", "page.js"),
)
MARK: Final = '<meta name="generator" content="sleeptools review">'.encode("utf-16-le")
"""What the beginning of such a page has."""
HEAD_BYTES: Final = 4096


def stage_codes(stages: Stages, reasons: Stages) -> list[int]:
    """Return a whole number for each epoch: the stage's, or minus that of the reason for none."""
    codes: list[int] = np.where(reasons == SCORED, stages, -reasons).tolist()
    return codes


def page_bytes(
    facts: Mapping[str, Any],
    signals: Sequence[str],
    banners: Sequence[tuple[str, str]],
    source: PageSource,
) -> bytes:
    """Assemble the page.

    Parameters
    ----------
    facts
        What the scripts are told; `sleeptools.commands.review.page_facts` makes them.
    signals
        Text of each packed signal.
    banners
        Head and text of what must be seen; those without a head are listed for who asks.
    source
        What the page is of.

    Returns
    -------
    page
        In UTF-16 with a byte order mark.
    """
    folder = resources.files("sleeptools.report.review_page")
    script = "\n" + "\n".join(folder.joinpath(name).read_text("utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        source=source.in_markup(),
        title=markup.escape(f"Review: {facts['id']}"),
        heading=markup.escape(f"Review of {facts['id']}"),
        notes=_notes(banners),
        stages=_stage_buttons(facts["names"]),
        purpose=markup.escape(PURPOSE),
        facts=script_json(facts),
        signals=markup.join(_signal(k, packed) for k, packed in enumerate(signals)),
        style=folder.joinpath("review.css").read_text("utf-8"),
        script=script,
        digest=digest,
    )
    return codecs.BOM_UTF16_LE + text.encode("utf-16-le")


def script_json(value: object) -> str:
    """Write JSON that can end no element of a page, in ASCII."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _signal(number: int, packed: str) -> Markup:
    return Markup(f'<script type="text/plain" id="signal-{number}">{packed}</script>\n')


def _notes(banners: Sequence[tuple[str, str]]) -> Markup:
    loud = [
        markup.element(
            "p",
            markup.element("strong", markup.escape(head)),
            markup.escape(f" {text}"),
            class_="note",
        )
        for head, text in banners
        if head
    ]
    quiet = [text for head, text in banners if not head]
    if quiet:
        summary = markup.element("summary", markup.escape(f"Notes ({len(quiet)})"))
        loud.append(markup.element("details", summary, markup.bullet_list(quiet), class_="note"))
    return markup.join(loud)


def _stage_buttons(names: Sequence[str]) -> Markup:
    codes = [*enumerate(names), (-UNKNOWN, "?")]
    return markup.join(
        markup.element(
            "button",
            markup.escape(name),
            type="button",
            data_stage=code,
            aria_pressed="false",
            aria_label=name if code >= 0 else f"no stage: {REASONS[UNKNOWN]}",
            class_=f"stage-{name if code >= 0 else 'none'}",
        )
        for code, name in codes
    )
