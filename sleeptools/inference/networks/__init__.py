"""Networks on the native core alone, one file a model; the file's name is the model's."""
