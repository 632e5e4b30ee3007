"""pixelsr: fast, exact pixel-autoregressive image models.

Parts are imported when they are used: `import pixelsr` alone imports no torch, so that the command
line answers at once. `import pixelsr.ops` registers the operators `torch.ops.pixelsr.*`; models,
nn, functional and sampling import it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (  # noqa: F401
        adapters,
        analysis,
        bench,
        config,
        data,
        errors,
        evaluation,
        functional,
        masks,
        models,
        nn,
        ops,
        sampling,
        training,
        utils,
    )
    from .adapters import adapt
    from .analysis.causality import check_causality
    from .analysis.receptive_field import receptive_field
    from .errors import CausalityError, LogitsError, NotCausal, PlanError, UnsupportedOperation
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
    "NotCausal",
    "PixelCNN",
    "PixelRecursiveSR",
    "PlanError",
    "RowLSTM",
    "UnsupportedOperation",
    "adapt",
    "check_causality",
    "functional",
    "nn",
    "receptive_field",
    "sample",
    "sampling",
]

_SUBMODULES = (
    "adapters",
    "analysis",
    "bench",
    "config",
    "data",
    "errors",
    "evaluation",
    "functional",
    "masks",
    "models",
    "nn",
    "ops",
    "sampling",
    "training",
    "utils",
)
_MODULE_OF = {
    "CausalityError": "errors",
    "ConditioningNetwork": "models",
    "DiagonalBiLSTM": "models",
    "GatedPixelCNN": "models",
    "LogitsError": "errors",
    "NotCausal": "errors",
    "PixelCNN": "models",
    "PixelRecursiveSR": "models",
    "PlanError": "errors",
    "RowLSTM": "models",
    "UnsupportedOperation": "errors",
    "adapt": "adapters",
    "check_causality": "analysis.causality",
    "receptive_field": "analysis.receptive_field",
    "sample": "sampling",
}
"""The module of each public name that is not a module itself."""

if not TYPE_CHECKING:  # for a type checker, other names than those above are errors

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value  # found without this function from now on
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES, "__version__"})
