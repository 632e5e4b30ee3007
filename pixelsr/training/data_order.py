"""The order of the images: the batch of a step is a pure function of the seed and the step."""

import hashlib

import torch
from torch import Tensor


class DataOrder:
    """Epochs of whole batches; each epoch is a permutation of its own, and has flips of its own.

    The images left over at the end of an epoch, fewer than a batch, are dropped from it.

    Args:
        images: ``[N, C, H, W]``.
        batch: images a step, of all workers together; N where there are fewer.
        seed: of the order and the flips.
        flip: mirror half of the images, left to right.
        parts: equal pieces that a step will be cut into; its batch is made a multiple of them.
    Raises:
        ValueError: fewer images than parts.
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
        """The batch of a step (from 0), ``[batch, C, H, W]``."""
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
    """A seed of 32 bits in which neighboring seeds and epochs have nothing in common."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:4], "little")
