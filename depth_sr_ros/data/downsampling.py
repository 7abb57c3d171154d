# SPDX-License-Identifier: Apache-2.0
"""Bringing depth to a lower resolution without mixing missing pixels in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from depth_sr_ros.nearest_upsampling import lower_medians
from depth_sr_ros.point_samples import place_points

METHODS = ('area', 'bicubic', 'nearest')


def valid_depth(depth: np.ndarray) -> np.ndarray:
    """Return a float32 copy in which all that is not a measurement (NaN, inf, <= 0) is 0."""
    depth = np.asarray(depth, np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def low_frequency_field(
    shape: tuple[int, int], cell: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a smooth random field, float32 `shape`, about N(0, 1), varying over `cell` px."""
    height, width = shape
    # Two cells more than needed: the interpolation's border must not show.
    grid_height, grid_width = int(height / cell) + 4, int(width / cell) + 4
    grid = rng.standard_normal((grid_height, grid_width), dtype=np.float32)
    x = np.arange(width, dtype=np.float32) / cell + 1 + rng.random()
    y = np.arange(height, dtype=np.float32) / cell + 1 + rng.random()
    map_x, map_y = np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)
    field = cv2.remap(
        grid, np.ascontiguousarray(map_x), np.ascontiguousarray(map_y), cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    return field * np.float32(1.35)  # cubic interpolation of white noise loses variance


@dataclass(frozen=True)
class Downsample:
    """Lower the resolution by `factor` (not necessarily an integer) to (round(H/s), round(W/s)).

    method: 'area' (mean of the valid pixels of each cell), 'bicubic' (antialiased, as the guided
    super-resolution papers use it) or 'nearest' (a single pixel of each cell). A cell of which
    less than `min_coverage` is valid becomes 0.

    offset: where in its cell the pixel of 'nearest' lies, rows and columns, as a share of the cell,
    0 to below 1. The middle is what Pillow takes, the start what OpenCV does.
    """

    factor: float
    method: str = 'area'
    min_coverage: float = 0.5
    offset: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 64:
            raise ValueError(f'downsampling factor is {self.factor}; allowed is 1 to 64')
        if self.method not in METHODS:
            raise ValueError(f'downsampling method is {self.method!r}; allowed: {METHODS}')
        if not all(0 <= share < 1 for share in self.offset):
            raise ValueError(f'offset is {self.offset}; allowed is 0 to below 1 cell')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        size = low_size(depth.shape, self.factor)
        if size == depth.shape:
            return depth
        if self.method == 'nearest':
            rows, columns = map(_cell_index, depth.shape, size, self.offset)
            return depth[rows[:, None], columns]
        if self.method == 'bicubic':
            return _bicubic(depth, size, self.min_coverage)
        return area_downsample(depth, size, self.min_coverage)


@dataclass(frozen=True)
class Upsample:
    """Repeat pixels until the map has `share` of the RGB image's size, as many bringups do.

    By cv2.resize with INTER_NEAREST; (h, w) becomes (round(share H), round(share W)), but never
    less than it was.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.share <= 1:
            raise ValueError(f"share of RGB's size is {self.share}; allowed is 0.1 to 1")

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = low_size(rgb.shape[:2], 1 / self.share)
        size = max(width, depth.shape[1]), max(height, depth.shape[0])
        return cv2.resize(valid_depth(depth), size, interpolation=cv2.INTER_NEAREST)


@dataclass(frozen=True)
class PlacePoints:
    """Give each point its pixel in the RGB image and leave the others without measurement.

    What the pipeline makes of point samples, see `depth_sr_ros.point_samples`. A map that has RGB's
    size already repeats one point in each cell, with noise. One that does not divide RGB's size
    stays as it is.

    factor: pixels of a cell in each direction. phase: row and column of the point in it.
    """

    factor: int
    phase: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f'factor is {self.factor}; allowed is 2 or more pixels')
        if not all(0 <= place < self.factor for place in self.phase):
            raise ValueError(f'phase is {self.phase}; allowed is 0 to {self.factor - 1} px')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        if depth.shape == rgb.shape[:2]:
            if any(side % self.factor for side in depth.shape):
                return depth
            depth = lower_medians(depth, self.factor)
        if any(n != m * self.factor for n, m in zip(rgb.shape[:2], depth.shape, strict=True)):
            return depth
        return place_points(depth, self.factor, self.phase)


def low_size(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Return (h, w) of an (H, W) image after downsampling by `factor`, at least (1, 1)."""
    return max(1, round(shape[0] / factor)), max(1, round(shape[1] / factor))


def area_downsample(
    depth: np.ndarray, size: tuple[int, int], min_coverage: float = 0.5
) -> np.ndarray:
    """Return float32 `size` = (h, w): the mean of the valid (> 0) pixels in each cell, or 0."""
    valid = (depth > 0).astype(np.float32)
    total = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_AREA)
    coverage = cv2.resize(valid, size[::-1], interpolation=cv2.INTER_AREA)
    # A hair below the threshold, so that exactly half a cell counts in float arithmetic.
    keep = coverage >= max(min_coverage, 1e-3) - 1e-4
    return np.where(keep, total / np.maximum(coverage, 1e-6), np.float32(0))


def cell_samples(depth: np.ndarray, size: tuple[int, int], count: int) -> np.ndarray:
    """Return (count * count, h, w): pixels on a regular grid inside each low-resolution cell."""
    offsets = (np.arange(count) + 0.5) / count
    rows = [_cell_index(depth.shape[0], size[0], offset) for offset in offsets]
    columns = [_cell_index(depth.shape[1], size[1], offset) for offset in offsets]
    return np.stack([depth[r[:, None], c] for r in rows for c in columns])


def _cell_index(length: int, low: int, offset: float) -> np.ndarray:
    return np.minimum(((np.arange(low) + offset) * length / low).astype(np.intp), length - 1)


def _bicubic(depth: np.ndarray, size: tuple[int, int], min_coverage: float) -> np.ndarray:
    valid = depth > 0
    if not valid.any():
        return np.zeros(size, np.float32)
    total = _bicubic_along_rows(_bicubic_along_rows(depth, size[0]).T, size[1]).T
    if valid.all():
        low, keep = total, np.ones(size, bool)
    else:
        coverage = valid.astype(np.float32)
        coverage = _bicubic_along_rows(_bicubic_along_rows(coverage, size[0]).T, size[1]).T
        keep = coverage >= max(min_coverage, 0.25) - 1e-4
        low = total / np.where(keep, coverage, 1)
    # Negative lobes overshoot at edges; past the scene's own range they would be nonsense.
    low = np.clip(low, depth[valid].min(), depth.max())
    return np.where(keep, low, np.float32(0)).astype(np.float32)


def _bicubic_along_rows(image: np.ndarray, low: int) -> np.ndarray:
    # Tap by tap and not by matrix product: data workers would fight over the BLAS threads.
    index, weights = _bicubic_taps(image.shape[0], low)
    result = np.zeros((low, image.shape[1]), np.float32)
    for i, w in zip(index, weights, strict=True):
        result += w[:, None] * image[i]
    return result


@lru_cache(maxsize=64)
def _bicubic_taps(length: int, low: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (taps, low) indices and weights of Keys' kernel (a = -0.5), widened by the factor."""
    factor = max(length / low, 1.0)
    centre = (np.arange(low) + 0.5) * length / low - 0.5
    index = np.floor(centre - 2 * factor).astype(np.intp) + np.arange(int(4 * factor) + 2)[:, None]
    t = np.abs(index - centre) / factor
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t <= 1, near, np.where(t < 2, far, 0))
    weights[(index < 0) | (index >= length)] = 0
    return np.clip(index, 0, length - 1), (weights / weights.sum(0)).astype(np.float32)
