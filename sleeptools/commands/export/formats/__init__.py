"""The formats of exported models, a file each; a file's name is that of the format."""
