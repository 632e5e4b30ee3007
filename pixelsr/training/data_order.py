"""The order of the images: the batch of a step is a pure function of the seed and the step."""

import hashlib

import torch
from torch import Tensor


class DataOrder:
    """The batches of all epochs; each epoch has its own permutation and flips.

    An incomplete last batch of an epoch is dropped.

    Args:
        images: ``[N, C, H, W]``.
        batch: images per step over all workers; reduced to N if there are fewer images.
        seed: seed of the order and the flips.
        flip: mirror half of the images, left to right.
        parts: number of equal pieces that each batch is cut into; the batch is rounded down to a
            multiple of it.
    Raises:
        ValueError: there are fewer images than parts.
    """

    def __init__(self, images: Tensor, batch: int, seed: int, flip: bool, parts: int = 1) -> None:
        self.images, self.seed, self.flip = images, seed, flip
        if len(images) < parts:
            raise ValueError(
                f"a step needs at least {parts} images, one for each worker and each batch that "
                f"is accumulated; there are {len(images)}"
            )
        self.batch = min(batch, len(images)) // parts * parts
        self.steps_per_epoch = len(images) // self.batch
        self._epoch = -1

    def __getitem__(self, step: int) -> Tensor:
        """Return the batch of a step (from 0), ``[batch, C, H, W]``."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        here = slice(position * self.batch, (position + 1) * self.batch)
        images = self.images[self._order[here]]
        if not self.flip:
            return images
        return torch.where(self._flips[here, None, None, None], images.flip(3), images)

    def _shuffle(self, epoch: int) -> None:
        generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
        self._order = torch.randperm(len(self.images), generator=generator, device="cpu")
        self._flips = (
            torch.rand(len(self.images), generator=generator, dtype=torch.float32, device="cpu")
            < 0.5
        )
        self._epoch = epoch


def _mix(seed: int, epoch: int) -> int:
    """Return a 32-bit seed, unrelated for neighboring seeds and epochs."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:4], "little")
