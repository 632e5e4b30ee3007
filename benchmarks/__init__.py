"""The benchmarks; `make bench` writes benchmarks/results."""
