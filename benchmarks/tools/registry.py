"""The benchmark suites, and the tests that must pass before a suite reports results."""

from typing import NamedTuple


class Suite(NamedTuple):
    """One benchmark file.

    Attributes:
        what: what the suite measures, in one sentence.
        guards: test files; while any of them fails, nothing is measured.
    """

    what: str
    guards: tuple[str, ...]


SUITES = {
    "bench_sampling": Suite(
        "The paper-size model's 32x32 images: every engine, the two simple loops, and one "
        "forward pass.",
        (
            "tests/sampling/plan/test_plan.py",
            "tests/sampling/test_sampling.py",
            "tests/sampling/test_sampling_distribution.py",
            "tests/sampling/engines/test_conformance.py",
            "tests/sampling/engines/test_engine_cpu.py",
            "tests/sampling/test_edits.py",
            "tests/sampling/test_holes.py",
            "tests/bench/test_bench.py",
        ),
    ),
    "bench_command_line": Suite(
        "Help and usage errors of the command line, which import no torch.",
        ("tests/project/test_imports.py",),
    ),
    "bench_plan_check": Suite(
        "A draw before its first value: checking a new plan or comparing a cached one.",
        (
            "tests/sampling/plan/test_plan.py",
            "tests/sampling/plan/test_plan_check.py",
            "tests/sampling/plan/test_plan_changes.py",
        ),
    ),
    "bench_adapted": Suite(
        "Images drawn from networks of others, beside their own loops and one forward pass.",
        (
            "tests/sampling/plan/test_plan.py",
            "tests/sampling/plan/test_plan_check.py",
            "tests/sampling/engines/test_conformance.py",
        ),
    ),
    "bench_completion": Suite(
        "The completion of the lower half of images by the C++ engine, beside whole images.",
        ("tests/sampling/plan/test_plan.py", "tests/sampling/test_holes.py"),
    ),
    "bench_edits": Suite(
        "The logits after one pixel of a 64x64 image changes: an edit and one forward pass.",
        ("tests/sampling/test_edits.py", "tests/nn/test_layers.py"),
    ),
    "bench_masked_conv": Suite(
        "The masked convolution, forward and backward: dense, cropped in two lines, and ours.",
        (
            "tests/nn/test_layers.py",
            "tests/functional/test_functional.py",
            "tests/test_masks.py",
            "tests/ops/test_masked_conv2d_triton.py",
        ),
    ),
    "bench_cross_entropy": Suite(
        "The loss from features, forward and backward, beside the loss from full logits.",
        ("tests/ops/test_pixel_cross_entropy.py", "tests/ops/test_pixel_cross_entropy_triton.py"),
    ),
    "bench_training_step": Suite(
        "One step of training beside the same network in plain PyTorch.",
        (
            "tests/models/test_models.py",
            "tests/training/test_training.py",
            "tests/ops/test_masked_conv2d_triton.py",
            "tests/ops/test_gate_triton.py",
            "tests/ops/test_pixel_cross_entropy_triton.py",
        ),
    ),
    "bench_pixelrnn": Suite(
        "A training step of one recurrent layer beside the same layer as a loop in PyTorch.",
        (
            "tests/ops/test_pixelrnn_ops.py",
            "tests/ops/test_lstm_cpu.py",
            "tests/models/test_pixelrnn.py",
        ),
    ),
    "bench_pixelrnn_sampling": Suite(
        "Images drawn from a PixelRNN by the C++ engine, beside one forward pass.",
        (
            "tests/sampling/engines/test_conformance.py",
            "tests/sampling/test_recurrent_sampling.py",
            "tests/models/test_pixelrnn.py",
        ),
    ),
    "bench_noise": Suite(
        "The noise of an image: the C++ kernel and PyTorch.", ("tests/ops/test_noise.py",)
    ),
}
