"""Measurements of the inputs that each output of a network reads."""
