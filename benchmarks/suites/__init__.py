"""The benchmarks that `make bench` runs, one file per subject."""
