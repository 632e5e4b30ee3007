"""Triton's interpreter, which runs kernels on CPU tensors, slowly; imports no Triton."""

import os


def interprets() -> bool:
    """Was it asked for, before the kernels were imported?"""
    return os.environ.get("TRITON_INTERPRET") == "1"
