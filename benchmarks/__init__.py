"""What is measured; `make bench` writes benchmarks/results."""
