"""The names that a user may choose from, and the limits of what is given."""

ENGINES = ("cuda", "triton", "cpu", "reference")
"""The sampling engines, the fastest first."""
BINARIZATIONS = ("threshold", "bernoulli")
"""The ways to make gray images black and white."""
OPTIMIZERS = ("adamw", "rmsprop")
SCHEDULES = ("cosine", "halving")
"""The schedules of the learning rate."""
PRECISIONS = ("float32", "bfloat16", "float16")
"""The dtypes that a training step computes in."""
MAX_SIDE = 16_384
"""Largest side of an image, in pixels; a larger one is refused by its header."""
