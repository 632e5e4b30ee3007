"""All families of networks that others publish, and their faulty variants, by name."""

from . import (
    color_groups,
    containers,
    cropped_gated,
    dilated_gated,
    ising,
    layouts,
    masked_stack,
    weight_norm,
)
from .family import Family, Faulty

_MODULES = (
    masked_stack,
    ising,
    dilated_gated,
    cropped_gated,
    color_groups,
    weight_norm,
    containers,
    layouts,
)

FAMILIES: dict[str, Family] = {
    name: family for module in _MODULES for name, family in module.FAMILIES.items()
}
FAULTY: dict[str, Faulty] = {
    name: faulty for module in _MODULES for name, faulty in module.FAULTY.items()
}
