"""What is measured, and which tests must be green before a figure of it may be reported."""

from typing import NamedTuple


class Suite(NamedTuple):
    """One file of benchmarks.

    Attributes:
        what: is measured, in a sentence.
        guards: files of tests; while one of them is red, nothing is measured.
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
            "tests/sampling/engines/test_engine_cpu.py",
            "tests/sampling/test_edits.py",
            "tests/sampling/test_holes.py",
            "tests/bench/test_bench.py",
        ),
    ),
    "bench_plan_check": Suite(
        "What a draw does before its first value: the check of a new plan, and the comparison.",
        (
            "tests/sampling/plan/test_plan.py",
            "tests/sampling/plan/test_plan_check.py",
            "tests/sampling/plan/test_plan_changes.py",
        ),
    ),
    "bench_completion": Suite(
        "The lower half of images by the C++ engine, beside whole images.",
        ("tests/sampling/plan/test_plan.py", "tests/sampling/test_holes.py"),
    ),
    "bench_edits": Suite(
        "Logits after one pixel of a 64x64 image has changed: an edit, and one forward pass.",
        ("tests/sampling/test_edits.py", "tests/nn/test_layers.py"),
    ),
    "bench_masked_conv": Suite(
        "Forward and backward of the masked convolution: dense, cropped in two lines, and ours.",
        (
            "tests/nn/test_layers.py",
            "tests/functional/test_functional.py",
            "tests/test_masks.py",
            "tests/ops/test_masked_conv2d_triton.py",
        ),
    ),
    "bench_cross_entropy": Suite(
        "The loss from features, forward and backward, beside the one from whole logits.",
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
        "Images from a PixelRNN by the C++ engine, beside one forward pass.",
        ("tests/sampling/test_recurrent_sampling.py", "tests/models/test_pixelrnn.py"),
    ),
    "bench_noise": Suite(
        "The noise of an image: the C++ kernel, and PyTorch.", ("tests/ops/test_noise.py",)
    ),
}
