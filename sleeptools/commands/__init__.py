"""The commands as functions, one file each: folder in, folder out; `cli/NAME.py` calls `commands/NAME.py`."""
