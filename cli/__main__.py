"""`python -m sleeptools.cli` is `sleeptools`."""

from . import main

main()
