"""Which validation was the best, and how long ago."""

import dataclasses


@dataclasses.dataclass
class Best:
    """The best validation so far.

    Args:
        bits: per dimension; infinite before the first validation.
        stale: validations since.
        measured: the step of the last validation.
    """

    bits: float = float("inf")
    stale: int = 0
    measured: int = 0

    def take(self, bits: float) -> bool:
        """Take one validation; true where it is a new best."""
        better = bits < self.bits
        self.bits, self.stale = (bits, 0) if better else (self.bits, self.stale + 1)
        return better

    def is_stale(self, patience: int | None) -> bool:
        """True after `patience` validations without a new best; never where that is None."""
        return patience is not None and self.stale >= patience
