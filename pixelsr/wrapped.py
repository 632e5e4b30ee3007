"""Models inside PyTorch's wrappers, which spread, average or compile them."""

from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

_WITH_MODULE = (DataParallel, DistributedDataParallel, AveragedModel)


def unwrap(model: Any) -> Any:
    """Return the model inside `DataParallel`, `DistributedDataParallel`, `AveragedModel` and
    `torch.compile`, nested in any order; anything else as it is.
    """
    while isinstance(model, nn.Module):
        if isinstance(model, _WITH_MODULE):
            model = model.module
        elif "_orig_mod" in model._modules:  # of torch.compile
            model = model._modules["_orig_mod"]
        else:
            break
    return model
