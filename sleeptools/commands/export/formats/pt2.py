"""pt2: the graph as `torch.export.load` reads it, the card among its extra files.

Signals and probabilities are those of the ONNX file. `torch.export.load(path).module()` is the
network; torch alone is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from sleeptools.commands.export.graph import export_graph, quiet
from sleeptools.inference.card import METADATA, card_text, make_card
from sleeptools.inference.density import finite_density
from sleeptools.inference.engine import Engine
from sleeptools.native import Floats

SUFFIXES: Final = (".pt2",)
CARD: Final = f"{METADATA}.json"


def export(engine: Engine, folder: Path, out: Path) -> None:
    """Write the file."""
    card = card_text(make_card(engine.facts, engine.span))
    with quiet():
        torch.export.save(export_graph(engine, folder), out, extra_files={CARD: card})


def load(path: Path, engine: Engine) -> Engine:
    """Load the file through torch."""
    with quiet():
        module = torch.export.load(path).module()

    @torch.inference_mode()
    def network(x: Floats) -> Floats:
        density: Floats = module(torch.from_numpy(x)).numpy()
        return density

    return Engine(
        engine.facts,
        lambda x: finite_density(x, network),
        precision="fp32",
        threads=engine.threads,
        backend="pt2",
        span=engine.span,
        files=[path],
    )


def about(path: Path, engine: Engine) -> list[str]:
    """Say how large it is and how it is used."""
    del engine
    return [f"{path.stat().st_size / 1024:.0f} KiB; torch.export.load('{path.name}').module()"]
