"""Helpers for files, processes, signals and modules, independent of the models."""
