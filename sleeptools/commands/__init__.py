"""The commands as functions, one file each: folder in, folder out.

`cli/NAME.py` reads the command line and calls `commands/NAME.py`.
"""
