"""The page of `review`: how large it is, how soon it is open, how long an epoch takes to draw.

Two simulated nights of 8 h, the sizes that the page is made for: 4 channels at 200 Hz and 8 at
100 Hz. Headless Chromium opens each page from the disk, several times, and pages through the night
at 1,366 x 768; a wait is from the key to the second frame after it. `python benches/review_page.py`
writes benches/results/review_page.json and .md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from instruments import provenance
from instruments.browser import Page, browsing
from sleeptools import formats, store
from sleeptools.commands.review import ReviewOptions, review
from sleeptools.commands.simulate import simulate
from sleeptools.recording.recording import Recording, Signal, write_recording
from sleeptools.recording.signals.resampling import resample

RESULTS = Path(__file__).parent / "results"
NIGHTS = {  # channels, rate (Hz), largest page (MB)
    "4 channels at 200 Hz": (["C3-A2", "O1-A2", "LOC-A2", "X1"], 200.0, 15),
    "8 channels at 100 Hz": (
        ["F3-A2", "C3-A2", "O1-A2", "F4-A1", "C4-A1", "O2-A1", "LOC-A2", "ROC-A1"],
        *(100.0, 20),
    ),
}
PAGES = 120  # epochs gone to
PAGING = f"""(async () => {{
  const frame = () => new Promise(requestAnimationFrame), drawn = [], waits = [];
  for (let k = 0; k < {PAGES}; k++) {{
    goTo((k * 37) % night.count);
    const begun = performance.now();
    draw();
    drawn.push(performance.now() - begun);
    await frame();
  }}
  for (let k = 0; k < {PAGES}; k++) {{
    const begun = performance.now();
    move(1);
    await frame();
    await frame();
    waits.push(performance.now() - begun);
  }}
  return [drawn, waits];
}})()"""


def night(folder: Path, labels: list[str], rate: float, hours: float, seed: int) -> Path:
    """Write a simulated night with these signals at this rate, as 16-bit numbers."""
    raw = simulate("isruc", folder / "raw", subjects=1, hours=hours, seed=seed)
    recorded = formats.read(next(raw.rglob("*.rec")))
    signals = {label: _stored(recorded.signals[label], rate) for label in labels}
    path = folder / "night.safetensors"
    kept = Recording("night", "night", 1, signals, start=recorded.start, facts=recorded.facts)
    write_recording(path, kept, {})
    return path


def _stored(signal: Signal, rate: float) -> Signal:
    samples = resample(signal.samples(), signal.sample_rate, rate)
    stored = np.rint(samples / signal.gain).clip(-32768, 32767).astype(np.int16)
    return replace(
        signal,
        sample_rate=rate,
        size=len(stored),
        read=partial(np.asarray, stored),
        offset=0.0,
        dtype=np.int16,
        stored_range=None,
    )


def measure(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    labels, rate, limit = NIGHTS[name]
    path = night(folder, labels, rate, options.hours, provenance.HELD_OUT_SEED)
    begun = time.perf_counter()
    page = review(path, folder / "review.html", ReviewOptions(channels=labels))
    made = time.perf_counter() - begun
    opened, first = [], []
    with browsing(folder) as browser:
        browser.resize(1366, 768)
        for _ in range(options.repetitions):
            browser.open_anew(page)
            opened.append(_mark(browser, "opened"))
            first.append(browser.evaluate("performance.getEntriesByType('paint')[0]?.startTime"))
        drawn, waits = browser.evaluate(PAGING)
        heap = browser.evaluate("performance.memory?.usedJSHeapSize") or 0
        version = browser.evaluate("navigator.userAgent.match(/Chrome.([0-9.]+)/)[1]")
    return {
        "night": name,
        "hours": options.hours,
        "megabytes": round(page.stat().st_size / 1e6, 2),
        "limit_megabytes": limit,
        "made_seconds": round(made, 2),
        "open_ms": _summary(opened),
        "first_paint_ms": _summary([t for t in first if t]),
        "draw_ms": _summary(drawn),
        "wait_ms": _summary(waits),
        "heap_megabytes": round(heap / 1e6),
        "chromium": version,
    }


def _mark(browser: Page, name: str) -> float:
    return float(browser.evaluate(f"performance.getEntriesByName('{name}')[0].startTime"))


def _summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 1),
        "largest": round(ordered[-1], 1),
    }


def markdown(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    lines = [
        "# The page of `review`: size, opening, and time to draw an epoch",
        "",
        f"Simulated nights of {rows[0]['hours']:g} h; headless Chromium {rows[0]['chromium']} "
        f"without a GPU, 1,366 x 768. {provenance.describe(facts)}",
        "",
        "| night | page, MB | at most | written in, s | open, ms | an epoch drawn, ms: median, "
        "95 %, largest | key to frame, ms: median, 95 %, largest |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = [
            r["night"],
            f"{r['megabytes']:.1f}",
            f"{r['limit_megabytes']}",
            f"{r['made_seconds']:.1f}",
            f"{r['open_ms']['median']:.0f} (largest {r['open_ms']['largest']:.0f})",
            *(", ".join(f"{v:.1f}" for v in r[k].values()) for k in ("draw_ms", "wait_ms")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    note = (
        "Open: from the navigation until all signals are unpacked; the stages are shown, and keys "
        "taken, before. Key to frame: until the second frame after the key, which at 60 frames a "
        "second is at least 17 ms."
    )
    return "\n".join([*lines, "", note, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    facts = provenance.facts("numpy")
    rows = []
    for name in NIGHTS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, options, Path(folder)))
            print(rows[-1])
    store.write_json(RESULTS / "review_page.json", {"facts": facts, "nights": rows})
    store.write_text(RESULTS / "review_page.md", markdown(rows, facts))


if __name__ == "__main__":
    main()
