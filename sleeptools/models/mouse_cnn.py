"""Mouse CNN: one 1-s epoch of mouse EEG and EMG at 512 Hz to three stages.

Fazla Rabbi Mashrur, Yixuan Luo, Paul Berggren, Yanlong Zhao, "Mice Sleep Staging from EEG and EMG
signals". The report gives the plan: a branch each for EEG, EMG and their Fourier transforms, of
blocks Conv1d - PReLU - BatchNorm - Dropout, then average pooling and a linear layer; two linear
layers classify the four together. Trained with Adam at 0.01 in one cycle, 30 passes, batches of 64.

A completion, not the authors' network: the report gives no sizes. Ours are four blocks of kernel 7,
stride 2 and 16, 32, 64, 64 maps, dropout 0.1; 8 pooled steps, dropout 0.5, 64 features a branch;
log(1 + magnitude) of the Hann-windowed epoch, standardised by the training epochs. The recipe
"paper" classifies by two blocks of a linear layer and an activation, as the report writes; the
default leaves the last activation out. Both keep the pass by macro-F1, as the report, also under
`best-on-test`.

Input is standardised over each recording, as the report's "normalisation" is read here.
"""

from __future__ import annotations

from sleeptools.models.layers import mouse_cnn
from sleeptools.models.layers.mouse_cnn import Config, MouseCNN

__all__ = ["ABOUT", "GROUPS", "MODEL_SETTINGS", "RECIPE", "RECIPES", "Config", "Model"]

ABOUT = {
    "paper": "Mashrur et al., Mice Sleep Staging from EEG and EMG signals; our completion",
    "parameters": 338_435,
    "recipes": {"default": 338_435, "paper": 338_438},
    "macs": 7_208_352,
    "montage": "EEG, EMG",
    "sample_rate": 512.0,
    "epoch_seconds": 1.0,
    "stages": 3,
    "native": ["conv_plan"],
}

RECIPES = mouse_cnn.RECIPES
RECIPE = RECIPES["default"]
MODEL_SETTINGS = mouse_cnn.MODEL_SETTINGS
GROUPS = mouse_cnn.GROUPS


class Model(MouseCNN):
    """The mouse CNN; see the head of the module."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, [0] * (2 * config.channels))
