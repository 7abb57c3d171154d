# SPDX-License-Identifier: Apache-2.0
"""Degradations that remove measurements: holes of the shapes that real sensors leave."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_sr_ros.data.downsampling import low_frequency_field, valid_depth
from depth_sr_ros.data.frame import glass_mask


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction <= 0.95:
        raise ValueError(f'fraction of holes is {fraction}; allowed is 0 to 0.95')


def _without(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.float32(0), depth)


def blob_mask(
    shape: tuple[int, int], fraction: float, rng: np.random.Generator, cell: float | None = None
) -> np.ndarray:
    """Return bool `shape`: rounded blobs of about `cell` px (None: random), `fraction` of it."""
    if cell is None:
        cell = float(np.exp(rng.uniform(np.log(4), np.log(0.25 * min(shape) + 5))))
    field = low_frequency_field(shape, cell, rng)
    field += 0.4 * low_frequency_field(shape, max(cell / 4, 1), rng)
    return field > np.quantile(field[::2, ::2], 1 - fraction)


def ragged(
    mask: np.ndarray, spread: float, rng: np.random.Generator, low: float = 0.2, high: float = 0.5
) -> np.ndarray:
    """Return `mask` with an outline that wobbles by about `spread` px, and grown somewhat.

    low, high: the mask, blurred, is cut at a level drawn between them; below 0.5 it grows.
    """
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), spread)
    outline = (soft > 0.02) & (soft < 0.98)
    soft += 0.2 * low_frequency_field(mask.shape, 3 * spread, rng) * outline
    return soft > rng.uniform(low, high)


@dataclass(frozen=True)
class BlobHoles:
    """Remove rounded blobs of random size, `fraction` of the area in all."""

    fraction: float = 0.1

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        return _without(depth, blob_mask(depth.shape, self.fraction, rng))


@dataclass(frozen=True)
class RectangleHoles:
    """Remove 1 to 4 rectangles, about `fraction` of the area in all."""

    fraction: float = 0.1

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        height, width = depth.shape
        count = int(rng.integers(1, 5))
        for _ in range(count):
            area = self.fraction * height * width / count
            aspect = float(np.exp(rng.uniform(-1, 1)))
            h = min(height, round((area * aspect) ** 0.5))
            w = min(width, round((area / aspect) ** 0.5))
            y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            depth[y : y + h, x : x + w] = 0
        return depth


@dataclass(frozen=True)
class DepthRangeHoles:
    """Remove a band of the scene's depths that holds about `fraction` of its measurements."""

    fraction: float = 0.15

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        values = depth[depth > 0]
        if not values.size:
            return depth
        start = rng.uniform(0, 1 - self.fraction)
        near, far = np.quantile(values, (start, start + self.fraction))
        return _without(depth, (depth >= near) & (depth <= far) & (near < far))


@dataclass(frozen=True)
class BorderHoles:
    """Remove strips along the frame's sides: RGB sees more than the registered depth camera."""

    width: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.width <= 400:
            raise ValueError(f'border width is {self.width}; allowed is 0 to 400 px of RGB')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        # Each side is drawn for itself, but one at least is there.
        sides = rng.random(4) < 0.6
        sides[rng.integers(4)] = True
        scale = depth.shape[1] / rgb.shape[1]
        for side, present in enumerate(sides):
            strip = round(self.width * rng.uniform(0.3, 1.0) * scale)
            if not present or not strip:
                continue
            turned = np.rot90(depth, side)  # a view: the first rows are the side in turn
            turned[: min(strip, turned.shape[0] - 1)] = 0
        return depth


@dataclass(frozen=True)
class SpecularHoles:
    """Remove measurements on the brightest `bright` and darkest `dark` fraction of the picture.

    Active sensors are blinded by highlights and get nothing back from black surfaces.
    """

    bright: float = 0.03
    dark: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction(self.bright)
        _check_fraction(self.dark)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        # Blurred, or film grain would make it a sieve.
        value = cv2.GaussianBlur(brightness(rgb, depth.shape), (0, 0), 1)
        value += 0.04 * low_frequency_field(depth.shape, 16, rng)
        dark, bright = np.quantile(value[::2, ::2], (self.dark, 1 - self.bright))
        blinded = np.zeros(depth.shape, bool)
        if self.bright:
            blinded |= value > bright
        if self.dark:
            blinded |= value < dark
        return _without(depth, blinded)


@dataclass(frozen=True)
class EdgeHoles:
    """Remove a ragged strip of about `width` px along depth edges, on a share of `probability`."""

    probability: float = 0.6
    width: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f'probability is {self.probability}; allowed is 0 to 1')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        return _without(depth, edge_mask(depth, self.probability, self.width, rng))


@dataclass(frozen=True)
class GlassHoles:
    """Make up to `count` of the scene's objects fail as glass does.

    Each object is a connected surface in front of something else (or a random ellipse where the
    scene has none). Parts of it are missing, with a ragged outline that overlaps the object's,
    and parts show what lies behind; `see_through` is the expected share of the latter.
    """

    count: int = 2
    see_through: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.count <= 20:
            raise ValueError(f'number of glass objects is {self.count}; allowed is 0 to 20')
        if not 0 <= self.see_through <= 1:
            raise ValueError(f'see_through is {self.see_through}; allowed is 0 to 1')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        result = valid_depth(depth)
        seeds = _foreground_seeds(result)
        for _ in range(self.count):
            region = _object_region(result, seeds, rng)
            if region is None:
                break
            behind = _background(result, region)
            result = _failed(result, region, behind, self.see_through, rng)
        return result


def _failed(
    depth: np.ndarray,
    glass: np.ndarray,
    behind: np.ndarray,
    see_through: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Depth (h, w) where `glass` shows some of what is `behind` it, and nothing else.

    see_through: how much it shows in the mean, 0 to 1.
    """
    spread = max(1.0, 0.01 * min(depth.shape))
    # Mostly outwards: the hole is larger than the glass.
    failed = _without(depth, ragged(glass, spread * rng.uniform(0.7, 2.5), rng, 0.15))
    share = rng.beta(1, 1 / max(see_through, 1e-3) - 1 + 1e-3)
    if share < 0.03:
        return failed
    seen = glass & (depth > 0) & (behind > 0)
    seen &= blob_mask(depth.shape, min(share, 0.95), rng, 6 * spread)
    return np.where(seen, behind, failed)


def seen_through_glass(
    depth: np.ndarray, behind: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What a depth sensor makes of glass: what lies behind it, nothing, or now and then the glass.

    Args:
        depth: float32 (h, w), metres, of the glass where there is any.
        behind: the same without it.
        rng: source of all randomness.

    Returns:
        float32 (h, w), 0 where nothing comes back: `depth` itself where there is no glass.
    """
    glass = glass_mask(depth, behind)
    if not glass.any() or rng.random() < 0.1:
        return depth
    result = _failed(depth, glass, behind, 0.5, rng)
    # Highlights send light back.
    highlight = glass & blob_mask(depth.shape, 0.1 * float(rng.beta(1, 3)), rng)
    return np.where(highlight, depth, result)


def brightness(rgb: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 `shape` in [0, 1]: the picture's luminance at the depth's size."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if grey.shape != tuple(shape):
        grey = cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_AREA)
    return grey.astype(np.float32) / 255


def depth_edges(depth: np.ndarray, ratio: float = 0.04) -> np.ndarray:
    """Return bool (h, w): pixels beside a jump of more than `ratio` of the depth."""
    far = cv2.dilate(depth, np.ones((3, 3), np.uint8))
    near = cv2.erode(np.where(depth > 0, depth, np.float32(1e9)), np.ones((3, 3), np.uint8))
    return (depth > 0) & (far > near * (1 + ratio))


def edge_mask(
    depth: np.ndarray, probability: float, width: float, rng: np.random.Generator
) -> np.ndarray:
    """Return bool (h, w): a strip along a share of the depth edges, up to about `width` px wide."""
    edge = depth_edges(depth, 0.05) & blob_mask(depth.shape, probability, rng, 24)
    return ragged(edge, max(0.6, width / 3), rng, 0.2, 0.6)


def _foreground_seeds(depth: np.ndarray) -> np.ndarray:
    """Return (n, 2) x, y of pixels just inside surfaces that stand in front of others."""
    reach = max(3, min(depth.shape) // 40)
    far = cv2.dilate(depth, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    front = (depth > 0) & (far > 1.06 * depth) & ~depth_edges(depth)
    y, x = np.nonzero(front)
    return np.stack([x, y], 1)


def _object_region(
    depth: np.ndarray, seeds: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    height, width = depth.shape
    if len(seeds):
        # floodFill takes no flipped or transposed view.
        log_depth = np.ascontiguousarray(np.log(np.maximum(depth, 1e-3)))
        for x, y in seeds[rng.integers(0, len(seeds), 4)]:
            mask = np.zeros((height + 2, width + 2), np.uint8)
            flags = 4 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
            cv2.floodFill(log_depth, mask, (int(x), int(y)), 0, 0.02, 0.02, flags)
            region = mask[1:-1, 1:-1] > 0
            if 0.003 < region.mean() < 0.25:
                return region
    where = np.flatnonzero(depth)
    if not where.size:
        return None
    y, x = np.unravel_index(rng.choice(where), depth.shape)
    mask = np.zeros((height, width), np.uint8)
    axes = rng.uniform(0.04, 0.2, 2) * min(height, width)
    axes = (max(1, int(axes[0])), max(1, int(axes[1])))
    cv2.ellipse(mask, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return mask > 0


def _background(depth: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return float32 (h, w): the depths around `region`, and not in front of it, spread over it."""
    front = np.median(depth[region & (depth > 0)]) if (depth[region] > 0).any() else 0
    around = (depth > front) & ~region
    step = 4 if min(depth.shape) >= 64 else 1
    weight = np.ascontiguousarray(around[::step, ::step], np.float32)
    total = np.ascontiguousarray(depth[::step, ::step]) * weight
    sigma = max(1.0, 0.5 * float(region[::step, ::step].sum()) ** 0.5)
    total, weight = (cv2.GaussianBlur(a, (0, 0), sigma) for a in (total, weight))
    low = np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), np.float32(0))
    return cv2.resize(low, depth.shape[::-1], interpolation=cv2.INTER_NEAREST)
