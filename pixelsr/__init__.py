"""pixelsr: fast, exact pixel-autoregressive image models.

Parts are imported when they are used: `import pixelsr` alone imports no torch, so that the command
line answers at once. `import pixelsr.ops` registers the operators `torch.ops.pixelsr.*`; so does
the first use of any other part.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        analysis,
        data,
        evaluation,
        functional,
        masks,
        models,
        nn,
        ops,
        sampling,
        training,
    )
    from .analysis.causality import check_causality
    from .analysis.receptive_field import receptive_field
    from .errors import CausalityError, LogitsError, PlanError
    from .models import (
        ConditioningNetwork,
        DiagonalBiLSTM,
        GatedPixelCNN,
        PixelCNN,
        PixelRecursiveSR,
        RowLSTM,
    )
    from .sampling import sample

__version__ = "0.1.0"
__all__ = [
    "CausalityError",
    "ConditioningNetwork",
    "DiagonalBiLSTM",
    "GatedPixelCNN",
    "LogitsError",
    "PixelCNN",
    "PixelRecursiveSR",
    "PlanError",
    "RowLSTM",
    "analysis",
    "check_causality",
    "data",
    "evaluation",
    "functional",
    "masks",
    "models",
    "nn",
    "ops",
    "receptive_field",
    "sample",
    "sampling",
    "training",
]

_MODULE_OF = {
    "check_causality": "analysis.causality",
    "receptive_field": "analysis.receptive_field",
    "CausalityError": "errors",
    "ConditioningNetwork": "models",
    "DiagonalBiLSTM": "models",
    "GatedPixelCNN": "models",
    "LogitsError": "errors",
    "PixelCNN": "models",
    "PixelRecursiveSR": "models",
    "PlanError": "errors",
    "RowLSTM": "models",
    "sample": "sampling",
}
"""The module of each public name that is not a module itself."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_OF.get(name, name)}")
    if name not in _MODULE_OF:
        return module
    value = getattr(module, name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
