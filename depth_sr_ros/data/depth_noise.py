# SPDX-License-Identifier: Apache-2.0
"""Degradations that change values and keep the resolution: noise, rounding, outliers, shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from depth_sr_ros.data.downsampling import low_frequency_field, valid_depth

QUANTISATIONS = ('uint8', 'log_uint8', 'inverse_uint8', 'bfloat16', 'mm')


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f'{name} is {value}; allowed is {low} to {high}')


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise of each pixel: z (1 + N(0, sigma)), or z + N(0, sigma) m if not relative."""

    sigma: float
    relative: bool = True

    def __post_init__(self) -> None:
        _check('noise sigma', self.sigma, 0, 0.5 if self.relative else 100)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        noise = rng.standard_normal(depth.shape, dtype=np.float32) * np.float32(self.sigma)
        noisy = depth * (1 + noise) if self.relative else depth + noise
        # A distance stays positive, or the pixel would turn into a missing one.
        return np.where(depth > 0, np.maximum(noisy, depth * np.float32(0.05)), np.float32(0))


@dataclass(frozen=True)
class LowFrequencyBias:
    """Multiply by 1 + a smooth field of standard deviation `sigma`: a sensor's distortion."""

    sigma: float
    cell: float = 64

    def __post_init__(self) -> None:
        _check('bias sigma', self.sigma, 0, 0.2)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        field = low_frequency_field(depth.shape, self.cell * depth.shape[1] / rgb.shape[1], rng)
        return depth * np.maximum(1 + np.float32(self.sigma) * field, np.float32(0.1))


@dataclass(frozen=True)
class Quantise:
    """Round as a storage format does.

    'uint8', 'log_uint8', 'inverse_uint8': 256 levels between the frame's nearest and farthest
    valid depth, even in depth, in its logarithm, in its inverse. 'bfloat16': 8 bits of mantissa.
    'mm': whole millimetres as in 16UC1; beyond 65.535 m they do not fit and become 0.
    """

    kind: str = 'uint8'

    def __post_init__(self) -> None:
        if self.kind not in QUANTISATIONS:
            raise ValueError(f'quantisation is {self.kind!r}; allowed: {", ".join(QUANTISATIONS)}')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        valid = depth > 0
        if not valid.any():
            return depth
        if self.kind == 'mm':
            millimetres = np.rint(depth * 1000)
            return np.where(millimetres <= 65535, millimetres / 1000, 0).astype(np.float32)
        if self.kind == 'bfloat16':
            return _round_to_bfloat16(depth)
        codes: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
            'uint8': (lambda z: z, lambda c: c),
            'log_uint8': (np.log, np.exp),
            'inverse_uint8': (np.reciprocal, np.reciprocal),
        }
        forward, backward = codes[self.kind]
        code = forward(depth[valid].astype(np.float64))
        low, step = code.min(), (code.max() - code.min()) / 255
        if step > 0:
            code = low + step * np.rint((code - low) / step)
        depth[valid] = backward(code)
        return depth


def _round_to_bfloat16(depth: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(depth).view(np.uint32)
    nearest_even = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return nearest_even.view(np.float32)


@dataclass(frozen=True)
class JPEGArtefacts:
    """8x8 block artefacts: 8 bits over the frame's range, through a JPEG of `quality` 1 to 100."""

    quality: int = 50

    def __post_init__(self) -> None:
        _check('JPEG quality', self.quality, 1, 100)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        valid = depth > 0
        if not valid.any():
            return depth
        values = depth[valid]
        low, span = values.min(), max(float(values.max() - values.min()), 1e-6)
        filled = np.where(valid, depth, np.median(values))
        code = np.rint((filled - low) * (255 / span)).astype(np.uint8)
        _, packed = cv2.imencode('.jpg', code, [cv2.IMWRITE_JPEG_QUALITY, int(self.quality)])
        decoded = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)
        restored = low + decoded.astype(np.float32) * np.float32(span / 255)
        return np.where(valid, restored, np.float32(0)).astype(np.float32)


@dataclass(frozen=True)
class Outliers:
    """Replace a fraction of the measurements by depths drawn from the scene's own range."""

    fraction: float

    def __post_init__(self) -> None:
        _check('fraction of outliers', self.fraction, 0, 0.5)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        where = np.flatnonzero(depth)
        count = round(self.fraction * where.size)
        if count:
            values = depth.ravel()[where]
            chosen = rng.choice(where, count, replace=False, shuffle=False)
            depth.ravel()[chosen] = rng.uniform(values.min(), values.max(), count)
        return depth


@dataclass(frozen=True)
class Misregistration:
    """Shift depth against RGB by `pixels` (of RGB) in a random direction, and scale it slightly.

    What comes in from outside the frame is missing (0). Before downsampling, so that the shift
    survives it.
    """

    pixels: float = 2.0
    max_scale: float = 0.004

    def __post_init__(self) -> None:
        _check('misregistration in pixels', self.pixels, 0, 32)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        height, width = depth.shape
        angle = rng.uniform(0, 2 * np.pi)
        shift = self.pixels * np.array([np.cos(angle), np.sin(angle)])
        shift *= (width / rgb.shape[1], height / rgb.shape[0])
        scale = 1 + rng.uniform(-self.max_scale, self.max_scale)
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = np.column_stack([np.eye(2) * scale, centre * (1 - scale) + shift])
        # Nearest: a mean of foreground and background would be a surface that is not there.
        return cv2.warpAffine(
            depth, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=0
        )


@dataclass(frozen=True)
class RangeLimit:
    """Remove what is nearer than `near` or farther than `far` metres."""

    near: float
    far: float

    def __post_init__(self) -> None:
        if not 0 <= self.near < self.far:
            raise ValueError(f'range is {self.near} to {self.far}; allowed is 0 <= near < far')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        return np.where((depth >= self.near) & (depth <= self.far), depth, np.float32(0))
