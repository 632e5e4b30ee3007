"""Benchmarks that `make bench` runs, a file for each subject."""
