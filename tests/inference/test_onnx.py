"""Any network in an ONNX file: what its card must say, and what is refused before it runs."""

import hashlib
import importlib.util
import json
import sys

import numpy as np
import pytest

import onnx_bytes
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, MissingInputError, UnavailableError
from sleeptools.inference import onnx_file
from sleeptools.inference.card import METADATA
from sleeptools.inference.engine import Engine
from sleeptools.store.libraries import install_line

runs = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
)


def epochs(count=7):
    return np.random.default_rng(1).normal(3, 20, (count, 2, 3000)).astype(np.float32)


# --- another's network ----------------------------------------------------------------------------


@runs
@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_a_network_of_any_batch_is_scored_by_its_card(tmp_path, batch):
    path = onnx_bytes.write(tmp_path / "net.onnx", batch=batch)
    engine = Engine.load(path)
    x = epochs()
    x[4, 1, 9] = np.inf
    density = engine.hypnodensity(x)
    assert np.isnan(density[4]).all()
    sound = [0, 1, 2, 3, 5, 6]
    np.testing.assert_allclose(density[sound], onnx_bytes.expected(x[sound]), atol=1e-6)
    assert (engine.backend, engine.stages, engine.size) == (
        "onnx",
        ("W", "N1", "N2", "N3", "REM"),
        (2, 3000),
    )
    assert [p.name for p in engine.files] == ["net.onnx", "net.json"]


@runs
def test_logits_and_tensors_beside_the_file(tmp_path):
    (tmp_path / "weights").mkdir()
    onnx_bytes.WEIGHTS.tofile(tmp_path / "weights" / "w.bin")
    path = onnx_bytes.write(
        tmp_path / "net.onnx", {"output": "logits"}, op="", location="weights/w.bin"
    )
    engine = Engine.load(path)
    np.testing.assert_allclose(engine.hypnodensity(epochs()), onnx_bytes.expected(epochs()), 1e-5)
    assert [p.name for p in engine.files] == ["net.onnx", "w.bin", "net.json"]


@runs
def test_a_network_of_another_is_scored_from_the_command_line(command, tmp_path):
    raw = simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=0.5)
    scaling = [{"do": "high-pass", "hz": 0.3}, {"do": "robust-scale"}]
    path = onnx_bytes.write(tmp_path / "net.onnx", {"scaling": scaling})
    ran = command("score", path, raw / "SC4001E0-PSG.edf", "--out", "scores")
    assert ran.code == 0, ran.err
    facts = json.loads((tmp_path / "scores/manifest.json").read_text())
    assert facts["how"] == "onnx"
    assert sorted(facts["made_by"]["model"]) == ["net.json", "net.onnx"]
    assert [s["do"] for s in facts["made_by"]["preset"]["processing"]] == [
        "high-pass",
        "robust-scale",
    ]
    assert command("score", path, raw / "SC4001E0-PSG.edf", "--out", "scores").code == 0


@runs
def test_a_sum_in_the_card_is_compared_and_its_absence_said(command, tmp_path):
    raw = simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=0.5)
    words = ("score", tmp_path / "net.onnx", raw / "SC4001E0-PSG.edf", "--out")
    path = onnx_bytes.write(tmp_path / "net.onnx")
    ran = command(*words, "unsummed")
    assert ran.code == 0
    assert "net.onnx: its card has no sum of it: a changed weight would not show" in ran.err
    content = path.read_bytes()
    path = onnx_bytes.write(path, {"sha256": hashlib.sha256(content).hexdigest()})
    ran = command(*words, "summed")
    assert ran.code == 0
    assert "its card has no sum" not in ran.err
    at = content.index(onnx_bytes.BIAS.tobytes()) + 4
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    refused(path, "ONNX-SUM")
    onnx_bytes.write(path, {"sha256": "ONNX"})
    refused(path, "ONNX-SUM")


# --- what is refused ------------------------------------------------------------------------------


def refused(path, code, match="net"):
    with pytest.raises(DataError, match=match) as caught:
        Engine.load(path)
    assert caught.value.code == code


def test_no_card(tmp_path):
    refused(onnx_bytes.write(tmp_path / "net.onnx", {}), "CARD-NONE")


@pytest.mark.parametrize(
    ("card", "code", "match"),
    [
        ({"stages": "W"}, "FACT-KIND", "stages is 'W'; expected a list of texts"),
        ({"licence": None}, "FACT-KIND", "licence"),
        ({"scaling": None}, "FACT-MISSING", "lacks scaling"),
        ({"scaling": [{"do": "magic"}]}, "PRE-VALUE", "magic"),
        ({"montage": []}, "PRE-VALUE", "montage"),
        ({"sample_rate": 1e9}, "FACT-KIND", "make no epoch"),
        ({"sequence": 3, "context": 1}, "FACT-KIND", "sequence 3 and context 1"),
        ({"sequence": 0}, "FACT-KIND", "sequence 0"),
        ({"output": "scores"}, "FACT-KIND", "probabilities or logits"),
        ({"version": 2}, "FACT-NEWER", "net"),
        ({"format": "other"}, "FACT-FORMAT", "net"),
    ],
)
def test_a_card_that_is_wrong(tmp_path, card, code, match):
    refused(onnx_bytes.write(tmp_path / "net.onnx", card), code, match)


def test_a_card_in_the_file_is_checked_too(tmp_path):
    path = onnx_bytes.write(tmp_path / "net.onnx", {}, metadata={METADATA: "{"})
    refused(path, "JSON-SYNTAX", "its card is not valid JSON")


@runs
@pytest.mark.parametrize(
    ("settings", "card", "code"),
    [
        ({}, {"montage": ["EEG Fpz-Cz", "EEG Pz-Oz", "EMG chin"]}, "ONNX-SHAPE"),
        ({"samples": 2999}, {}, "ONNX-SHAPE"),
        ({}, {"sequence": 5}, "ONNX-SHAPE"),
        ({}, {"context": 1}, "ONNX-SHAPE"),
        ({}, {"stages": ["W", "N", "REM"]}, "ONNX-SHAPE"),
        ({"op": ""}, {}, "ONNX-OUTPUT"),
        ({"op": "NoSuchOperator"}, {}, "ONNX-RUN"),
        ({"domain": "org.example"}, {}, "ONNX-RUN"),
        ({"channels": "C", "samples": "T"}, {"montage": ["EEG Fpz-Cz"]}, "ONNX-RUN"),
    ],
)
def test_a_network_that_does_not_fit(tmp_path, settings, card, code, capfd):
    path = onnx_bytes.write(tmp_path / "net.onnx", {"licence": "CC0-1.0", **card}, **settings)
    refused(path, code)
    assert capfd.readouterr() == ("", "")  # ONNX Runtime is silent


@runs
def test_an_operator_whose_name_is_no_text(tmp_path, capfd):
    path = onnx_bytes.write(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes().replace(b"Softmax", b"Soft\xff\xffx"))
    refused(path, "ONNX-RUN")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin", "a/../../x"])
def test_tensors_outside_the_folder_are_never_opened(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    onnx_bytes.WEIGHTS.tofile(tmp_path / "secret.bin")
    path = onnx_bytes.write(folder / "net.onnx", location=location)
    refused(path, "ONNX-OUTSIDE", "outside its folder")


@pytest.mark.parametrize("location", ["w.bin", "*/_ORT_MEM_ADDR_/*"])
def test_tensors_that_are_not_there(tmp_path, location):
    path = onnx_bytes.write(tmp_path / "net.onnx", location=location)
    with pytest.raises(MissingInputError):
        Engine.load(path)
    with pytest.raises(MissingInputError):
        Engine.load(tmp_path / "other.onnx")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = onnx_bytes.network(metadata={METADATA: json.dumps(onnx_bytes.CARD)})
    path = tmp_path / "net.onnx"
    for end in range(1, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises((DataError, UnavailableError)):
            Engine.load(path)


def test_no_onnx_at_all(tmp_path):
    for i, content in enumerate(
        [b"%PDF-1.7", b"\xff" * 99, b"\x3a\xff\xff\xff\xff\x0f", b"\0" * 9]
    ):
        path = tmp_path / f"net{i}.onnx"
        path.write_bytes(content)
        with pytest.raises(DataError):
            Engine.load(path)


def test_deep_nesting_is_refused(tmp_path):
    graph = b""
    for _ in range(100):  # a graph in an attribute of a node of a graph
        graph = onnx_bytes.field(1, onnx_bytes.field(5, onnx_bytes.field(6, graph)))
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes.field(7, graph))
    refused(path, "ONNX-DAMAGED", "messages in each other")


def test_without_onnx_runtime_the_line_to_type_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match="onnxruntime is needed") as caught:
        Engine.load(onnx_bytes.write(tmp_path / "net.onnx"))
    assert caught.value.exit_code == 69
    assert caught.value.hint == install_line("onnxruntime>=1.20")


def test_the_table_of_messages_leads_to_every_tensor():
    """A field of onnx.proto3 that is not in it would hide a location."""
    onnx = pytest.importorskip("onnx")
    kinds = {d.name: d for d in onnx.onnx_ml_pb2.DESCRIPTOR.message_types_by_name.values()}

    def leads(name, seen=()):
        fields = [f.message_type.name for f in kinds[name].fields if f.message_type]
        return any(
            f == "TensorProto" or (f not in seen and f in kinds and leads(f, (*seen, name)))
            for f in fields
        )

    for name in onnx_file.MESSAGES:
        fields = {f.number: f.message_type.name for f in kinds[name].fields if f.message_type}
        needed = {
            n: f for n, f in fields.items() if f == "TensorProto" or (f in kinds and leads(f))
        }
        if name in ("ModelProto", "TensorProto"):
            keys = {"ModelProto": "metadata_props", "TensorProto": "external_data"}
            needed[kinds[name].fields_by_name[keys[name]].number] = "StringStringEntryProto"
        assert onnx_file.MESSAGES[name] == needed, name
