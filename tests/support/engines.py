"""The engines as tests run them; without a GPU, Triton's interpreter and the emulated machine."""

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from pixelsr import ops
from tests.support import networks

ON_GPU = torch.cuda.is_available()
HAS_CUDA_ENGINE = ON_GPU and ops.WHY_NO_CUDA is None


@dataclass(frozen=True)
class TestedEngine:
    """An engine, and the precision that the tests expect of it.

    Attributes:
        dtype: the dtype of the networks whose images it draws without an error.
        near: the tolerance of its logits against a forward pass in float64.
        is_exact: False if it rounds features, so that only counted flips are tested.
        size, tall: sizes of images that it draws in less than a second.
    """

    __test__ = False  # for pytest

    name: str
    dtype: torch.dtype
    near: dict[str, float]
    device: str = "cpu"
    is_exact: bool = True
    size: tuple[int, int] = (6, 4)
    tall: tuple[int, int] = (6, 4)

    def network(self, name: str, dtype: torch.dtype | None = None) -> nn.Module:
        return networks.network(name, dtype or self.dtype).to(self.device)

    def skip_unless_exact(self) -> None:
        if not self.is_exact:
            pytest.skip("it rounds features to 16 bits: see the counted flips")

    def own(self, model: nn.Module) -> nn.Module:
        return model.to(self.device, self.dtype).eval()


ENGINES = {
    "reference": TestedEngine("reference", torch.float64, {"rtol": 1e-12, "atol": 1e-12}),
    "cpu": TestedEngine("cpu", torch.float64, {"rtol": 1e-12, "atol": 1e-12}),
    "triton": TestedEngine(
        "triton",
        torch.float32,
        {"rtol": 1e-5, "atol": 1e-5},
        "cuda" if ON_GPU else "cpu",
        size=(2, 2),
        tall=(4, 2),
    ),
    # The emulated machine also multiplies float32.
    "cuda": TestedEngine(
        "cuda",
        torch.float16 if HAS_CUDA_ENGINE else torch.float32,
        {"rtol": 0, "atol": 0.02 if HAS_CUDA_ENGINE else 5e-6},
        "cuda" if HAS_CUDA_ENGINE else "cpu",
        not HAS_CUDA_ENGINE,
    ),
}


def for_engines(arguments: str, cases: Iterable[object], **of_engine: Iterable[object]):
    """Parametrize a test by engine and case; a keyword gives an engine other cases.

    Triton's interpreter takes a second for a few pixels, so its cases are fewer and smaller.
    """
    return _for_each("engine", list(ENGINES), arguments, list(cases), of_engine)


def for_ways(arguments: str, cases: Iterable[object], **of_engine: Iterable[object]):
    """Parametrize a test by engine and case as `for_engines` does, and by the ancestral method.

    The argument `how` is {"engine": name} or {"method": "ancestral"}.
    """
    return _for_each("how", [*ENGINES, "ancestral"], arguments, list(cases), of_engine)


def _for_each(
    fixture: str,
    names: list[str],
    arguments: str,
    cases: list[object],
    of_engine: dict[str, Iterable[object]],
):
    made = []
    for name in names:
        for case in of_engine.get(name, cases):
            marks = getattr(case, "marks", ())
            values = getattr(case, "values", case if isinstance(case, tuple) else (case,))
            label = "-".join([name, *map(_label, values)])
            made.append(pytest.param(name, *values, id=label, marks=marks))
    taken = [fixture, *filter(None, arguments.split(","))]
    return pytest.mark.parametrize(taken, made, indirect=[fixture])


def _label(value: object) -> str:
    return getattr(value, "__name__", str(value)).removeprefix("torch.").replace(" ", "")
