"""Training of a model on the folds of a set of epochs."""
