"""ICC profiles made by hand, and their colors in sRGB computed from the definitions alone."""

import struct
from collections.abc import Callable, Mapping

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = (0.3127, 0.3290)
SRGB_PRIMARIES = (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)
P3_PRIMARIES = (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # sRGB and Display P3


def color_matrix(primaries, white=D65) -> np.ndarray:
    """Return the matrix from linear RGB to XYZ under D50; its columns are the primaries."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white_point = np.array([white[0] / white[1], 1, (1 - sum(white)) / white[1]])
    matrix = columns * np.linalg.solve(columns, white_point)
    scale = (BRADFORD @ D50) / (BRADFORD @ white_point)
    return np.linalg.inv(BRADFORD) @ np.diag(scale) @ BRADFORD @ matrix


def linear(values: np.ndarray) -> np.ndarray:
    """Return the linear light of sRGB values in [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Return the inverse of `linear` as levels of 255, not rounded."""
    light = np.clip(light, 0, 1)
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return 255 * values


def from_p3(values: np.ndarray) -> np.ndarray:
    """Return 8-bit Display P3 ``[..., 3]`` as sRGB, not rounded."""
    return _from_xyz(linear(values / 255) @ color_matrix(P3_PRIMARIES).T)


def from_gray(values: np.ndarray, gamma: float) -> np.ndarray:
    """Return grays in [0, 1] with light ``values ** gamma`` as sRGB ``[..., 3]``, not rounded."""
    return encoded(np.repeat(values[..., None] ** gamma, 3, -1))


def from_lab(lab: np.ndarray) -> np.ndarray:
    """Return CIE Lab under D50 ``[..., 3]`` as sRGB, not rounded."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], -1)
    return _from_xyz(D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))


def _from_xyz(xyz: np.ndarray) -> np.ndarray:
    return encoded(xyz @ np.linalg.inv(color_matrix(SRGB_PRIMARIES)).T)


def rgb_profile(matrix: np.ndarray) -> bytes:
    """Return a display profile with the sRGB curve."""
    columns = {f"{name}XYZ".encode(): _xyz(matrix[:, k]) for k, name in enumerate("rgb")}
    curves = {f"{name}TRC".encode(): _parametric(3, *CURVE) for name in "rgb"}
    return _profile(b"RGB ", b"mntr", b"XYZ ", {b"wtpt": _xyz(D50), **columns, **curves})


def gray_profile(*curve: float) -> bytes:
    """Return a gray profile with a power curve, or with a curve of five numbers such as `CURVE`."""
    tags = {b"wtpt": _xyz(D50), b"kTRC": _parametric(0 if len(curve) == 1 else 3, *curve)}
    return _profile(b"GRAY", b"mntr", b"XYZ ", tags)


def cmyk_profile(lab_of: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """Return a printer profile; `lab_of` maps inks ``[..., 4]``, each 0 or 1, to Lab."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    lab = lab_of(inks)
    grid = np.rint(np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], -1))
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += straight * 4 + grid.astype(np.uint8).tobytes() + straight * 3
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"wtpt": _xyz(D50), b"A2B0": table})


def _profile(space: bytes, kind: bytes, between: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    table, data = b"", b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    size = 132 + len(table) + len(data)
    header = struct.pack(">I4xI4s4s4s", size, 0x02400000, kind, space, between)
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(*D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _parametric(kind: int, *parameters: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(*parameters)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
