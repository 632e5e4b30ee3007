"""Where there is no GPU, Triton kernels run under the interpreter: set before any is imported."""

import dataclasses
import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def quick_interpreter(monkeypatch):
    """No checks of Triton's interpreter for sums that overflow 32 bits: they take half the time."""
    from triton.runtime.interpreter import interpreter_builder

    options = dataclasses.replace(interpreter_builder.options, sanitize_overflow=False)
    monkeypatch.setattr(interpreter_builder, "options", options)
