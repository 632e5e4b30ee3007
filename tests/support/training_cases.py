"""A small model, dark images and a short run, for tests of training."""

import torch

import pixelsr
from pixelsr.training import Budget, Intervals, RunDir, Trainer, TrainingConfig
from pixelsr.training.progress import Display

CONFIG = TrainingConfig(batch=4, lr=0.01, warmup=3, ema=0.9)
CHECKPOINT = "checkpoint.safetensors"


def small_model(levels=256):
    torch.manual_seed(0)
    return pixelsr.PixelRecursiveSR(
        pixelsr.GatedPixelCNN(channels=6, layers=1, kernel_size=3, head_channels=8, levels=levels),
        pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=levels),
    )


def random_images(n, seed=0, side=8):
    """Return dark and plain images, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    shades = torch.randint(0, 8, (n, 3, 1, 1), generator=generator)
    return (shades + torch.randint(0, 3, (n, 3, side, side), generator=generator)).to(torch.uint8)


def make_trainer(out, steps, *, model=None, config=CONFIG, validation=None, **options):
    intervals = Intervals(log=2, validate=1000, checkpoint=1000)
    return Trainer(
        model or small_model(),
        random_images(10),
        validation,
        RunDir(out, resume=options.pop("resume", False)),
        config,
        options.pop("budget", Budget(steps=steps)),
        options.pop("intervals", intervals),
        Display(),
        **options,
    )


def stop_at(step):
    """Return a `stop` that is True from the given step on; each call counts as a step."""
    calls = iter(range(1, 1000))
    return lambda: next(calls) >= step
