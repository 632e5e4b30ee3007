"""Fixtures for tests of operators."""

import pytest
import torch


@pytest.fixture
def poisoned():
    """Fill allocated memory with NaN until it is written."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
