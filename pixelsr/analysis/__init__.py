"""Which inputs an output of a network reads."""
