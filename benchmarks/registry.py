"""Which tests must be green before a benchmark may report."""

GUARDS = {
    "bench_sampling": [
        "tests/test_plan.py",
        "tests/test_sampling.py",
        "tests/test_sampling_distribution.py",
    ],
    "bench_noise": ["tests/test_noise.py"],
}
