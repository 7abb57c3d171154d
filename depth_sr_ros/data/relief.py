# SPDX-License-Identifier: Apache-2.0
"""Bumps on the surfaces of a rendered frame: what real things have and rendered ones lack."""

from __future__ import annotations

import math

import cv2
import numpy as np

# Wavelengths in pixels, and the smallest size (standard deviation relative to the depth).
_WAVELENGTHS = (8.0, 96.0)
_SMALLEST_SIZE = 0.001
_MOST_LAYERS = 3
# Share of reliefs that cover a part of the image only, and of those that the image shows.
_PARTIAL, _SHADED = 0.4, 0.6
# Slopes, relative depth per pixel, at which half of the shading's contrast is reached.
_SLOPE = 0.002


def _waves(
    shape: tuple[int, int], wavelengths: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Smooth noise of standard deviation 1 and of given wavelengths (vertical, horizontal)."""
    steps = [wavelength / 2.0 for wavelength in wavelengths]
    cells = [math.ceil(side / step) + 2 for side, step in zip(shape, steps, strict=True)]
    coarse = rng.normal(0, 1, cells).astype(np.float32)
    # Seen through a window at a random place, so that the grid shows nowhere.
    origin = [float(rng.uniform(0.5, 1.5)) for _ in steps]
    rows, columns = (
        (start + np.arange(side) / step).astype(np.float32)
        for start, side, step in zip(origin, shape, steps, strict=True)
    )
    waves = cv2.remap(coarse, *np.meshgrid(columns, rows), cv2.INTER_CUBIC,
                      borderMode=cv2.BORDER_REFLECT)  # fmt: skip
    return waves / max(float(waves.std()), 1e-9)


def random_relief(
    shape: tuple[int, int], rng: np.random.Generator, largest: float = 0.01
) -> np.ndarray:
    """Draw bumps, folds and ripples: noise of one to three wavelengths, in places or everywhere.

    Args:
        shape: (H, W).
        rng: source of all randomness.
        largest: standard deviation relative to the depth at most, 0.001 to 0.1.

    Returns:
        float32 (H, W): factor of the depth, within 1 - 3 largest and 1 + 3 largest.

    Raises:
        ValueError: for another `largest`.
    """
    if not _SMALLEST_SIZE <= largest <= 0.1:
        raise ValueError(f'largest relief is {largest}; allowed is {_SMALLEST_SIZE} to 0.1')
    relief = np.zeros(shape, np.float32)
    size = float(np.exp(rng.uniform(np.log(_SMALLEST_SIZE), np.log(largest))))
    for _ in range(int(rng.integers(1, _MOST_LAYERS + 1))):
        wavelength = float(np.exp(rng.uniform(*np.log(_WAVELENGTHS))))
        # Folds of cloth and grooves of bark are longer one way.
        stretch = float(np.exp(rng.uniform(0, np.log(4.0)))) if rng.random() < 0.3 else 1.0
        wavelengths = (wavelength, wavelength * stretch)
        layer = _waves(shape, wavelengths if rng.random() < 0.5 else wavelengths[::-1], rng)
        relief += float(rng.uniform(0.3, 1.0)) * layer
    relief *= size / max(float(relief.std()), 1e-9)
    if rng.random() < _PARTIAL:
        relief *= np.clip(0.5 + _waves(shape, (shape[0] / 2, shape[1] / 2), rng), 0.0, 1.0)
    # Three standard deviations, so that nothing comes near the camera.
    return 1.0 + np.clip(relief, -3.0 * size, 3.0 * size)


def shade_relief(rgb: np.ndarray, relief: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light the bumps from one side: brighter where they turn towards it.

    Args:
        rgb: uint8 (H, W, 3).
        relief: float32 (H, W), factor of the depth.
        rng: source of all randomness.

    Returns:
        uint8 (H, W, 3).
    """
    angle, contrast = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.6)
    down, right = np.gradient(relief)
    slope = (np.cos(angle) * right + np.sin(angle) * down) / _SLOPE
    light = 1.0 + contrast * slope / (1.0 + np.abs(slope))
    return np.clip(rgb * light[..., None] + 0.5, 0, 255).astype(np.uint8)


def with_relief(
    rgb: np.ndarray,
    depths: tuple[np.ndarray, ...],
    rng: np.random.Generator,
    largest: float = 0.01,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Give every surface of a frame the same random relief.

    Rendered surfaces are smooth, and a network that has seen no other takes every bump that a
    sensor measures for noise.

    Args:
        rgb: uint8 (H, W, 3).
        depths: float32 (H, W) each, metres; 0 where unknown, which it stays.
        rng: source of all randomness.
        largest: see `random_relief`.

    Returns:
        rgb, lit accordingly in three of five cases (a relief without contrast is seen by depth
        cameras only), and the depths.
    """
    relief = random_relief(rgb.shape[:2], rng, largest)
    if rng.random() < _SHADED:
        rgb = shade_relief(rgb, relief, rng)
    return rgb, tuple(depth * relief for depth in depths)
