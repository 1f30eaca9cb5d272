"""Makes small files, and damages files, for the examples of faults: `spoil VERB FILE ...`.

Runs in a shell by `python -m tests.helpers.spoil`, or in this process.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from sleeptools import store
from sleeptools.errors import SleeptoolsError

BEGAN = datetime(2024, 5, 6, 22, 30)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pairs(words: Sequence[str]) -> list[tuple[str, Any]]:
    return [(name, _value(value)) for name, _, value in (w.partition("=") for w in words)]


# --- files of the field ---------------------------------------------------------------------------


def edf(path: Path, *words: str) -> None:
    """Write noise as EDF: `seconds=` `labels=A,B` `rates=64,64` `unit=uV` `flat=1`."""
    import sleeptools.formats.edf
    from sleeptools.formats.parsing.edf_header import SignalHeader
    from sleeptools.recording.recording import Recording, Signal

    asked = dict(w.split("=", 1) for w in words)
    seconds, unit = int(asked.get("seconds", 120)), asked.get("unit", "uV")
    labels = asked.get("labels", "A,B").split(",")
    rates = [int(r) for r in asked.get("rates", ",".join(["64"] * len(labels))).split(",")]
    rng = np.random.default_rng(0)
    level = 0.0 if "flat" in asked else 20.0
    values = [rng.normal(0, level, seconds * r).astype(np.float32) for r in rates]
    heads = [
        SignalHeader(n, "", unit, -200, 200, -32768, 32767, "", r, 0)
        for n, r in zip(labels, rates, strict=True)
    ]
    signals = {
        n: Signal(n, r, unit, "other", len(v), lambda v=v: v)
        for n, r, v in zip(labels, rates, values, strict=True)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    night = Recording("x", "x", 1, signals, start=BEGAN)
    sleeptools.formats.edf.write(path, night, heads, record_seconds=1.0)


def scoring(path: Path, *words: str) -> None:
    """Write annotations `ONSET:DURATION:TEXT` as EDF+; "Sleep stage " goes without saying."""
    import sleeptools.formats.edf

    events = [
        (float(onset), float(duration), text if " " in text else f"Sleep stage {text}")
        for onset, duration, text in (w.split(":") for w in words)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    sleeptools.formats.edf.write_annotations(path, events, BEGAN)


def records(path: Path, kind: str, *clocks: str) -> None:
    """Write EDF+ in records of 1 s with these time stamps: `EDF+D +0 +1 +9`."""
    from tests.helpers.edf_plus import plus_file

    plus_file(path, [c.encode() for c in clocks], kind.encode())


def annotations(path: Path, tals: str) -> None:
    r"""Write EDF+ with these bytes as its annotations: `+0\x14\x14\0`."""
    from tests.helpers.edf_plus import annotation_file

    annotation_file(path, tals.encode().decode("unicode_escape").encode("latin-1"))


def mat(path: Path, *words: str) -> None:
    """Write a mouse as a MATLAB file, some variables changed: `NAME=[1,2]`, `NAME=` without it."""
    from scipy.io import savemat

    values: dict[str, Any] = {
        "eeg": np.random.default_rng(0).normal(0, 2e-5, 1280),
        "emg": np.random.default_rng(1).normal(0, 2e-5, 1280),
        "eeg_frequency": 128.0,
        "sleep_scores": np.array([0.0, 1, 2, 1, 1, 2, 2, 2, 1, 1]),
    }
    for name, value in _pairs(words):
        values[name] = np.array(value) if value != "" else None
    savemat(path, {n: v for n, v in values.items() if v is not None})


def onnx(path: Path, *words: str) -> None:
    """Write a small network as ONNX with its card; `card=` without, `op=NAME` `location=PATH`."""
    from tests.helpers import onnx_bytes

    asked = dict(_pairs(words))
    onnx_bytes.write(path, {} if asked.pop("card", None) == "" else None, **asked)


def mat73(path: Path) -> None:
    """Write the first bytes of a MATLAB file of version 7.3."""
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(512))


def sheet(path: Path, *rows: str) -> None:
    """Write a workbook, a word a row, its cells between commas."""
    from sleeptools.datasets.spreadsheets.xlsx import write_xlsx

    write_xlsx(path, [[_value(cell) for cell in row.split(",")] for row in rows])


# --- damage ---------------------------------------------------------------------------------------


def put(path: Path, at: str, text: str) -> None:
    r"""Write bytes at an offset: `236 "abc     "`, with escapes such as \x00."""
    data = bytearray(path.read_bytes())
    new = text.encode().decode("unicode_escape").encode("latin-1")
    data[int(at) : int(at) + len(new)] = new
    path.write_bytes(bytes(data))


def facts(path: Path, *words: str) -> None:
    """Change keys of a JSON or TOML file: `a.b=VALUE` (JSON), `a.b=` without it."""
    text = path.read_text("utf-8")
    content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    for name, value in _pairs(words):
        *outer, last = name.split("/") if "/" in name else name.split(".")
        table = content
        for key in outer:
            table = table[key]
        if value == "":
            del table[last]
        else:
            table[last] = value
    path.write_text("", "utf-8")
    (store.write_json if path.suffix == ".json" else store.write_toml)(path, content)


def table(path: Path, *words: str) -> None:
    """Change a parquet table.

    `COLUMN=VALUE` in every row, `COLUMN=` without it,
    `rows=N` of them, `again=ROLE` for tests a second time,
    `double=N` for the first fold a second time.
    """
    import polars as pl

    content = store.read_table(path)
    for name, value in _pairs(words):
        if name == "rows":
            content = content.head(value)
        elif name == "again":  # the rows of tests once more, in this role
            tests = content.filter(role="test").with_columns(role=pl.lit(value))
            content = pl.concat([content, tests.cast(dict(content.schema))])
        elif name == "double":  # the first fold again, under this number
            first = content.filter(fold=0)
            content = pl.concat(
                [first, first.with_columns(fold=pl.lit(value, content["fold"].dtype))]
            )
        elif value == "":
            content = content.drop(name)
        else:
            content = content.with_columns(pl.lit(value, content.schema[name]).alias(name))
    store.write_table(path, content)


def arrays(path: Path, *words: str) -> None:
    """Change arrays of a safetensors file: `NAME=nan`, `NAME=zeros`, `NAME=cut`, `NAME=` without.

    `NAME=0.5` is a factor, `*` the first array.
    """
    file = store.read_tensors(path)
    content = {name: np.array(array) for name, array in file.arrays.items()}
    for word, value in _pairs(words):
        name = next(iter(content)) if word == "*" else word
        if value == "":
            del content[name]
        elif value == "nan":
            content[name].flat[0] = np.nan
        elif value == "zeros":
            content[name][:] = 0
        elif isinstance(value, float):
            content[name] *= value
        else:
            content[name] = content[name][..., :1]
    store.write_arrays(path, content, dict(file.facts))


def sums(folder: Path, *names: str) -> None:
    """Write the present sums of files into the manifest of their folder: all, or these."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    for name in names or content["files"]:
        content["files"][name] = store.sha256(folder / name)
    path.write_text(json.dumps(content))


def bound(folder: Path) -> None:
    """Bind the weights and the settings of a model folder to each other as they are."""
    from sleeptools.runs import model_folder

    content = json.loads((folder / "config.json").read_text())
    weights = store.read_tensors(folder / "model.safetensors").arrays
    copied = {name: np.array(array) for name, array in weights.items()}
    for key in ("format", "version"):
        content.pop(key)
    model_folder.write_model_folder(folder, content, copied)


def rebound(folder: Path, *words: str) -> None:
    """Change weights as `arrays` does and bind them."""
    arrays(folder / "model.safetensors", *words)
    bound(folder)


def checkpoint(folder: Path, kind: str) -> None:
    """Write the state of an unfinished training: of another model (`other`), or `damaged`."""
    from sleeptools.runs.run import STATE
    from sleeptools.training.checkpoint import KIND, SUM, VERSION

    arrays = {"model.x": np.zeros(2, np.float32), "best_score": np.zeros(1)}
    facts: dict[str, Any] = {"format": KIND, "version": VERSION}
    total = store.digest(arrays, facts) if kind == "other" else ""
    store.write_arrays(folder / STATE, arrays, facts | {SUM: total})


# --- commands in a bad world ----------------------------------------------------------------------


def served(folder: Path, fault: str, *words: str) -> None:
    """Run a command whose word URL is a server of a folder's files, with a fault.

    `drop` breaks off, `busy` is overloaded, `gone` has nothing, `certificate` is not to be trusted.
    """
    from tests.helpers import http_server

    faults = {"drop": http_server.drop(10), "busy": http_server.say(503)}
    with http_server.serving() as server:
        if fault != "gone":
            server.files |= {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
            server.list_sums()
        if fault in faults:
            server.faults["SHA256SUMS.txt"] = [faults[fault]] * 9
        url = untrusted_server() if fault == "certificate" else server.url
        Path("sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None\n")
        _run([url if w == "URL" else w for w in words])


def untrusted_server() -> str:
    """Start a server whose certificate nobody signed; it ends with this process."""
    import socket
    import ssl
    import threading

    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*key, "-keyout", "k.pem", "-out", "c.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("c.pem", "k.pem")
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            with contextlib.suppress(OSError), listening.accept()[0] as raw:
                context.wrap_socket(raw, server_side=True).close()

    threading.Thread(target=answer, daemon=True).start()
    return f"https://localhost:{listening.getsockname()[1]}/"


def held(folder: Path, *words: str) -> None:
    """Run a command while this process works on a folder."""
    with store.lock(folder):
        _run(words)


def call(place: Path, *words: str) -> None:
    """Call MODULE:FUNCTION of the Python API; its error is shown as the command line does."""
    module, function = place.name.split(":")
    try:
        getattr(importlib.import_module(module), function)(*words)
    except SleeptoolsError as e:
        sys.stderr.write(f"error: {e} [{e.code}]\nhint: {e.hint}\n")
        raise SystemExit(e.exit_code) from None


def _run(words: Sequence[str]) -> None:
    path = f".:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        words, check=False, env=os.environ | {"PYTHONPATH": path, "no_proxy": "*"}
    )
    raise SystemExit(done.returncode)


VERBS: dict[str, Callable[..., None]] = {
    verb.__name__: verb
    for verb in (
        *(edf, scoring, records, annotations, mat, mat73, onnx, sheet),
        *(put, facts, table, arrays, sums, bound, rebound, checkpoint),
        *(served, held, call),
    )
}


def main(words: Sequence[str], folder: Path = Path()) -> None:
    """Run one command in a folder."""
    verb, file, *rest = words
    VERBS[verb](folder / file, *rest)


if __name__ == "__main__":
    main(sys.argv[1:])
