"""Golden logits of every model: `python tests/helpers/golden_models.py [MODEL...]`.

Weights and input come from a closed formula on integers, the same on every machine, so that a few
hundred bytes of logits hold a network of any size to what it computed when they were written.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from sleeptools import registry, store
from sleeptools.models.folder import build_model

KIND = "sleeptools-golden"
GOLDEN = Path(__file__).parents[1] / "data" / "golden"
BATCH = 3
# softmax, or a product of two streams, over unscaled microvolts widens the sums' last bits
TOLERANCE = {"attnsleep": 5e-5, "salientsleepnet": 1e-4}
VARIANTS = {
    "mmasleepnet": {
        "default": {},
        "kernels-authors": {"kernels": "authors"},
        "tokens-paper": {"tokens": "paper"},
        "se-paper": {"se": "paper"},
        "eeg-6": {"eeg": 6},
        "eeg-6-kernels-authors": {"eeg": 6, "kernels": "authors"},
        "modalities-eeg": {"modalities": "eeg"},
        "modalities-eeg-eog": {"modalities": "eeg+eog"},
        "fusion-mbfe-te": {"fusion": "mbfe+te"},
        "fusion-mbfe": {"fusion": "mbfe"},
        "stages-3": {"stages": 3},
    },
    "attnsleep": {
        "default": {},
        "one-channel": {"channels": 1},
        "channel-2": {"channel": 2},
    },
    "ulw-sleepnet": {
        "default": {},
        "one-channel": {"channels": 1},
        "ten-channels": {"channels": 10},
        "stages-3": {"stages": 3},
    },
    "masleepnet": {"default": {}, "sequence-2": {"sequence": 2}},
    "salientsleepnet": {
        "default": {"sequence": 11, "filters": 4},
        "mmasleepnet": {"sequence": 11, "filters": 4, "variant": "mmasleepnet", "eeg": 1},
    },
    "sleepprintnet": {
        "default": {},
        "as-published": {
            "electrodes": ["F3", "C3", "O1", "F4", "C4", "O2"],
            "eog": 2,
            "emg": 3,
            "sample_rate": 128.0,
        },
        "mmasleepnet": {"variant": "mmasleepnet", "electrodes": ["F3", "C3"]},
        "multitaper": {
            "variant": "mmasleepnet",
            "spectrum": "multitaper",
            "electrodes": ["F3", "C3"],
        },
    },
    "mouse-cnn": {"default": {}, "three-channels": {"channels": 3}},
    "mouse-cnn-attention": {"default": {}, "heads-1": {"heads": 1}},
    "mouse-transformer": {"default": {}, "one-channel": {"channels": 1, "layers": 2}},
    "slumbernet": {
        "default": {"epoch_seconds": 0.5},
        "layout-authors": {"epoch_seconds": 0.5, "layout": "authors", "blocks": 5},
    },
}


def uniform(shape, seed):
    """Values in [-1, 1) that depend on place and seed only (splitmix64, Steele et al. 2014)."""
    z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(seed << 32)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float32) / 2**23 - 1).reshape(shape)


def fill(model):
    """Replace weights and running statistics; the model is left in eval mode."""
    state = model.state_dict()
    for i, (name, tensor) in enumerate(state.items()):
        if not tensor.is_floating_point():
            continue
        values = torch.from_numpy(uniform(tuple(tensor.shape), i))
        if tensor.dim() > 1:
            values *= (3 / tensor[0].numel()) ** 0.5  # variance 1 / inputs
        elif name.endswith(("running_var", "weight")):
            values = 1 + 0.5 * values
        else:
            values *= 0.1
        state[name] = values
    model.load_state_dict(state)
    return model.eval()


def shape(config):
    """Shape of a model's input without the batch."""
    several = (config.input_span.sequence, 1 + 2 * config.input_span.context)
    size = (config.channels, round(config.sample_rate * config.epoch_seconds))
    return *(n for n in several if n > 1), *size


def signals(config, batch=BATCH):
    """Input of a model, uV."""
    noise = uniform((batch, *shape(config)), 999)
    return torch.from_numpy(40 * noise + 20 * np.roll(noise, 7, -1))


def variants(name):
    """Settings of a model that have golden logits, by name."""
    return VARIANTS.get(name, {"default": {}})


def path(name):
    return GOLDEN / f"model_{name.replace('-', '_')}.safetensors"


@torch.inference_mode()
def logits(name, config, dtype=torch.float32):
    model = fill(build_model(name, config))
    return model.to(dtype)(signals(model.config).to(dtype)).float().numpy()


def make(name):
    arrays = {v: logits(name, config, torch.float64) for v, config in variants(name).items()}
    facts = {"format": KIND, "version": 1, "model": name, "variants": variants(name)}
    store.write_arrays(path(name), arrays, facts)


if __name__ == "__main__":
    for name in sys.argv[1:] or registry.names("models"):
        make(name)
