"""A night: its signals, its montage, and its hypnogram."""
