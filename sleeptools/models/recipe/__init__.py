"""How a model is trained by default: optimiser, schedule, augmentation, selection of the pass."""
