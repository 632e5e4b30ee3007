"""The command line as `python -m pixelsr.cli`."""

from . import main

main(prog_name="pixelsr")
