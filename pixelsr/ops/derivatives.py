"""Gradients of gradients: operators that have none say so."""

from typing import Any

import torch

from .library import LIBRARY


def refuse_second_derivatives(name: str) -> None:
    """Have an operator that computes gradients raise where its own gradient is asked for.

    Without, autograd would take it for a constant, and give a wrong answer.
    """

    def refuse(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(
            f"{name} has no derivative: second derivatives need another backend, such as 'cropped' "
            "or 'reference'"
        )

    torch.library.register_autograd(
        f"pixelsr::{name}", refuse, setup_context=_keep_nothing, lib=LIBRARY
    )


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass
