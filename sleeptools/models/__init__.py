"""The models, one file each; the file's name is the model's on the command line."""
