"""The command line as `python -m pixelsr`."""

from .cli import main

main()
