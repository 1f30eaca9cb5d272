"""A recording of one night: its signals, the channels of its montage, and its hypnogram."""
