"""Loading a network from a model folder or a file, on whatever can run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sleeptools import native, registry, store
from sleeptools.inference import spectral, yasa_network
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.native.bfloat16 import uses_bf16
from sleeptools.preprocessing.sequences import InputSpan
from sleeptools.runs import model_folder

Network = Callable[[Floats], Floats]


class LoadedNetwork(NamedTuple):
    """A network with what is known of it.

    Parameters
    ----------
    facts
        Contents of the model folder's config.json, or of the card of a file.
    network
        From epochs to their hypnodensity.
    precision
        Precision of the products, in use.
    backend
        "native", "numpy", "torch", "onnx" or "yasa".
    span
        Epochs that the network takes at once.
    files
        What it was loaded from, the facts first; the scores depend on their content.
    """

    facts: Mapping[str, Any]
    network: Network
    precision: Precision
    backend: str
    span: InputSpan
    files: tuple[Path, ...]


def unverified(path: Path, facts: Mapping[str, Any]) -> str:
    """Warn of a model that nothing has the sums of; empty if its files were compared.

    Parameters
    ----------
    path
        Model folder, or ONNX file.
    facts
        What was loaded from it.
    """
    if path.is_dir():
        return model_folder.unverified(path)
    if "sha256" in facts:
        return ""
    return (
        f"{path}: its card has no sum of it: a changed weight would not show; `sha256` in the card "
        "keeps it from now on"
    )


def _has_kernels(name: str, config: Mapping[str, Any]) -> bool:
    """Tell whether the native core has kernels for a model with these settings."""
    if name not in registry.names("networks"):
        return False
    needed: Mapping[str, Any] = getattr(registry.load("networks", name), "KERNELS_FOR", {})
    return all(config.get(key, value) == value for key, value in needed.items())


def load_network(path: Path, precision: Precision, threads: int) -> LoadedNetwork:
    """Load the network of a model folder, or of an ONNX file.

    Parameters
    ----------
    precision
        "bf16" multiplies in bfloat16 where the CPU has the arithmetic and the model kernels for it.
    threads
        CPU threads of ONNX Runtime.

    Raises
    ------
    MissingInputError, DataError
        If the folder or a file is not there, or is damaged.
    UnavailableError
        If ONNX Runtime is needed and not installed.
    """
    if path.suffix == ".onnx" and not path.is_dir():
        from sleeptools.inference.onnx_network import OnnxNetwork

        network = OnnxNetwork(path, threads)
        span, files = network.input_span, tuple(network.files)
        return LoadedNetwork(network.facts, network, "fp32", "onnx", span, files)
    facts = model_folder.read_config(path)
    files = (path / model_folder.CONFIG, path / model_folder.WEIGHTS)
    name = str(facts["model"])
    if name == spectral.NAME:
        weights = Weights(model_folder.read_weights(path), path / model_folder.WEIGHTS)
        with store.building(path / model_folder.CONFIG):
            night = spectral.Network(facts["config"], weights)
        weights.finish()
        return LoadedNetwork(facts, night, "fp32", "numpy", InputSpan(), files)
    if name == yasa_network.NAME:
        yasa = yasa_network.YasaNetwork(facts)
        return LoadedNetwork(yasa.facts, yasa, "fp32", "yasa", InputSpan(), files[:1])
    if not native.available() or not _has_kernels(name, facts["config"]):
        from sleeptools.inference.torch_network import TorchNetwork

        by_torch = TorchNetwork(path)
        return LoadedNetwork(facts, by_torch, "fp32", "torch", by_torch.input_span, files)
    module = registry.load("networks", name)
    used: Precision = "bf16" if module.HALF and uses_bf16(precision) else "fp32"
    weights = Weights(model_folder.read_weights(path), path / model_folder.WEIGHTS)
    with store.building(path / model_folder.CONFIG):
        kernels = module.Network(facts["config"], weights, used)
    weights.finish()
    return LoadedNetwork(facts, kernels, used, "native", kernels.span, files)
