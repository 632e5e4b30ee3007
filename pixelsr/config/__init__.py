"""Sizes, options and their defaults, without torch, so that the command line answers at once."""
