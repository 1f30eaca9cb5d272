"""Layers of AttnSleep's two convolution streams (MRCNN), which MASleepNet has, too.

One EEG channel of 3000 samples goes through both; joined on time they give 128 maps of 80 steps.
"""

from __future__ import annotations

from sleeptools.native.conv_streams import ConvLayer

MAPS = 128  # feature maps of a stream
STEPS = 80  # time steps after the two streams are joined: 64 + 16

STREAMS = (
    (  # short kernels
        ConvLayer(64, 50, 6, 24, (8, 2, 4)),  # (64, 251)
        ConvLayer(MAPS, 8, 1, 4),
        ConvLayer(MAPS, 8, 1, 4, (4, 4, 2)),  # (128, 64)
    ),
    (  # long kernels
        ConvLayer(64, 400, 50, 200, (4, 2, 2)),  # (64, 31)
        ConvLayer(MAPS, 7, 1, 3),
        ConvLayer(MAPS, 7, 1, 3, (2, 2, 1)),  # (128, 16)
    ),
)
