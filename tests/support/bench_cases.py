"""Two small networks to measure, and a report of made-up measurements."""

import dataclasses

import torch

import pixelsr
from pixelsr.bench import Growth, Measurement, Report, machine
from pixelsr.bench.report import CACHED, CROPPED_LOOP, DENSE, NAIVE_LOOP
from tests.support.helpers import randomize


def network() -> pixelsr.PixelRecursiveSR:
    sizes = {"channels": 9, "layers": 2, "levels": 16, "kernel_size": 3}
    prior = pixelsr.GatedPixelCNN(**sizes, head_channels=12, first_kernel_size=5)
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, levels=16, scale_factor=2)
    return randomize(pixelsr.PixelRecursiveSR(prior, conditioning)).eval()


def prior() -> pixelsr.PixelCNN:
    sizes = {"channels": 6, "layers": 3, "head_channels": 8, "levels": 16}
    return randomize(pixelsr.PixelCNN(**sizes)).eval()


def figure(method=CACHED, engine="cpu", weights="model", batch=4, scale=1.0) -> Measurement:
    own, forward = (6.0, 20.0, 8.0), (2.0, 4.0, 4.0)  # ratios 3, 5, 2
    if method != CACHED:
        engine = weights = None
    return Measurement(method, engine, weights, batch, tuple(scale * time for time in own), forward)


def growth() -> Growth:
    return Growth("cpu", "float16", ((4, 4), (16, 16)), ((1.0, 1.0), (20.0, 24.0)), (1000, 4000))


def report(**changes: object) -> Report:
    results = [
        figure(method, batch=batch, scale=scale)
        for batch in (4, 1)
        for method, scale in ((CACHED, 1), (CROPPED_LOOP, 50), (NAIVE_LOOP, 900), (DENSE, 0.4))
    ]
    here, date = machine(torch.device("cpu")), "2026-01-02T03:04:05+00:00"
    made = Report(here, date, prior().describe(), (4, 6), tuple(results), ())
    return dataclasses.replace(made, **changes)
